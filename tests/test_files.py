import errno
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from spiking_resnet import files
from spiking_resnet.files import BusyError, Pace, held, open_file, write_whole

SOURCE = str(Path(files.__file__).parent)  # alone: the package takes seconds to import


def python(code, *arguments, **options):
    environment = {**os.environ, "PYTHONPATH": SOURCE}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, env=environment, text=True, **options)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    return path


def test_folders_are_made_and_files_replaced(tmp_path):
    path = tmp_path / "new" / "folder" / "file"
    write_whole(path, b"one")
    write_whole(str(path), b"two")
    assert path.read_bytes() == b"two"
    assert os.listdir(path.parent) == ["file"]
    with pytest.raises(FileNotFoundError, match=r"cannot write .*gone.*No such file"):
        write_whole(tmp_path / "gone" / "file", b"", folders=False)
    assert not (tmp_path / "gone").exists()


def test_a_link_stays_and_its_target_is_written(tmp_path, path):
    link, dangling, loop = (tmp_path / name for name in ("link", "dangling", "loop"))
    link.symlink_to("file")
    dangling.symlink_to(tmp_path / "folder" / "later")
    loop.symlink_to(loop)
    write_whole(link, b"new")
    write_whole(dangling, b"later")
    assert link.is_symlink()
    assert path.read_bytes() == b"new"
    assert dangling.is_symlink()
    assert (tmp_path / "folder" / "later").read_bytes() == b"later"
    with pytest.raises(OSError, match=r"cannot write .*loop"):
        write_whole(loop, b"")
    assert loop.is_symlink()


@pytest.mark.parametrize("mode", [0o600, 0o444, 0o755])
def test_permissions_stay(path, mode):
    path.chmod(mode)
    write_whole(path, b"new")
    assert stat.S_IMODE(path.stat().st_mode) == mode


def test_a_new_file_has_the_usual_permissions(tmp_path):
    before = os.umask(0o027)
    try:
        write_whole(tmp_path / "file", b"")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640


def test_other_names_of_a_file_keep_the_old_content(tmp_path, path):
    os.link(path, tmp_path / "other")
    write_whole(path, b"new")
    assert (tmp_path / "other").read_bytes() == b"old"


def test_names_of_any_length(tmp_path):
    path = tmp_path / ("x" * 255)
    write_whole(path, b"new")
    with held(path):
        assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == [path.name]


def test_a_pipe_is_written_and_stays(tmp_path):
    pipe, got = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()))
    reader.start()
    write_whole(pipe, b"new")
    reader.join()
    assert got == [b"new"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert os.listdir(tmp_path) == ["pipe"]


def test_devices_are_written_and_stay(tmp_path):
    (tmp_path / "null").symlink_to(os.devnull)
    write_whole(os.devnull, b"new")
    write_whole(tmp_path / "null", b"new")
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)
    assert os.listdir(tmp_path) == ["null"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_device_without_space():
    with pytest.raises(OSError, match="cannot write /dev/full: No space left"):
        write_whole("/dev/full", b"x" * 100_000)
    assert stat.S_ISCHR(os.stat("/dev/full").st_mode)


def test_open_files_have_numbers(tmp_path, path):
    link = tmp_path / "link"
    link.symlink_to("/dev/stdout")
    assert [open_file(name) for name in ("/dev/stdout", "/dev/stderr", "/dev/fd/7", link)] == [
        1, 2, 7, 1
    ]  # fmt: skip
    assert [open_file(name) for name in (path, tmp_path / "gone", os.devnull)] == [None] * 3


def test_standard_output_keeps_what_was_written_to_it(path):
    code = (
        "from files import write_whole\n"
        "print('before'); write_whole('/dev/stdout', b'content\\n'); print('after')"
    )
    with path.open("wb") as file, python(code, stdout=file):
        pass
    assert path.read_text() == "before\ncontent\nafter\n"


@pytest.mark.parametrize("failing", ["fsync", "replace"])
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left"), KeyboardInterrupt()])
def test_what_fails_leaves_the_old_file_and_nothing_else(path, monkeypatch, failing, error):
    def fails(*_):
        raise error

    monkeypatch.setattr(os, failing, fails)
    with pytest.raises((OSError, KeyboardInterrupt)) as caught:
        write_whole(path, b"new")
    if isinstance(error, OSError):
        assert caught.value.errno == errno.ENOSPC
        assert f"cannot write {path}: No space left" in str(caught.value)
    assert path.read_bytes() == b"old"
    assert os.listdir(path.parent) == ["file"]


KILLED = """
import os, sys, signal
from files import write_whole
os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)
write_whole(sys.argv[1], b"half")
"""


def test_what_a_killed_process_left_goes_with_the_next_writing(path):
    python(KILLED, path).wait()
    others = [".file.deadbeef.part.bak", ".file.notes.part", ".other.deadbeef.part"]
    for name in others:
        (path.parent / name).touch()
    assert len(os.listdir(path.parent)) == 5
    assert path.read_bytes() == b"old"
    write_whole(path, b"new")
    assert sorted(os.listdir(path.parent)) == sorted(["file", *others])


def test_what_a_living_writer_is_writing_stays(path, monkeypatch):
    whole, inside = os.replace, []

    def meanwhile(partial, target):
        monkeypatch.setattr(os, "replace", whole)
        write_whole(path, b"between")  # as another thread would
        inside.append(os.path.exists(partial))
        whole(partial, target)

    monkeypatch.setattr(os, "replace", meanwhile)
    write_whole(path, b"last")
    assert inside == [True]
    assert path.read_bytes() == b"last"
    assert os.listdir(path.parent) == ["file"]


def test_many_threads_write_one_file(path):
    contents = [bytes([number]) * 50_000 for number in range(8)]
    threads = [
        threading.Thread(target=lambda own=own: [write_whole(path, own) for _ in range(5)])
        for own in contents
    ]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        assert path.read_bytes() in (b"old", *contents)
    for thread in threads:
        thread.join()
    assert path.read_bytes() in contents
    assert os.listdir(path.parent) == ["file"]


HOLDER = """
import sys, time
from files import held
with held(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


def test_one_holder_at_a_time_and_a_killed_one_holds_no_longer(tmp_path):
    path = tmp_path / "progress.json"
    with python(HOLDER, path, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == "held\n"
        with pytest.raises(BusyError, match=r"progress\.json is in use"), held(path):
            pass
        process.kill()
    with held(path), pytest.raises(BusyError), held(path):
        pass
    assert os.listdir(tmp_path) == []


def test_devices_are_held_by_all():
    with held(os.devnull), held(os.devnull):
        assert not list(Path("/dev").glob(".null*"))


def test_savings_come_as_fast_as_they_are_cheap(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(files.time, "monotonic", lambda: now[0])
    pace = Pace()
    assert pace.due()  # nothing is known yet
    with pace.saving():
        now[0] += 2.0
    now[0] += 2.0 * files.WORK_PER_SAVING - 1
    assert not pace.due()
    now[0] += 2.0
    assert pace.due()
