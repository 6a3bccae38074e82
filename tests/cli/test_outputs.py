"""What becomes of the files a command writes, and of standard output, whatever is done to them."""

import errno
import io
import json
import os
import signal
import stat
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_cli import convert_digits, ok, refused, run

import spiking_resnet as sr
from spiking_resnet.cli import app, stream
from spiking_resnet.cli.outputs import check_data, write_json
from spiking_resnet.cli.signals import Stopped
from spiking_resnet.evaluation.progress_file import own, own_folder
from spiking_resnet.files import held
from spiking_resnet.records import InputError

SOURCE = str(Path(sr.__file__).parents[1])
SHORT = ("--limit", 30, "--steps", "4")


@pytest.fixture(scope="module")
def snn(tmp_path_factory):
    path = tmp_path_factory.mktemp("snn") / "snn.safetensors"
    convert_digits(path)
    return path


def command(*arguments):
    """The command line of a shell."""
    return " ".join([sys.executable, "-m", "spiking_resnet", *map(str, arguments)])


def shell(line):
    environment = {**os.environ, "PYTHONPATH": SOURCE}
    return subprocess.run(
        ["bash", "-c", line], capture_output=True, text=True, env=environment, check=False
    )


# Standard output


class Refusing(io.StringIO):
    """A stream that cannot be written to."""

    error: Exception = BrokenPipeError()

    def write(self, text):
        raise self.error


@pytest.mark.parametrize(
    ("shows", "shown"),
    [
        (Refusing(), True),  # as after `| head`
        (None, True),  # as after `>&-`
        (io.TextIOWrapper(io.BytesIO(), "ascii"), True),
        (type("Full", (Refusing,), {"error": OSError(28, "No space left")})(), False),
    ],
    ids=["broken", "closed", "ascii", "full"],
)
def test_what_cannot_be_shown_is_written(tmp_path, monkeypatch, snn, shows, shown):
    def shown_there(*arguments, **options):
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", shows)
            show(*arguments, **options)

    module = import_module("spiking_resnet.cli.evaluate")
    show, results = module.show, tmp_path / "r.json"
    monkeypatch.setattr(module, "show", shown_there)
    done = run("evaluate", snn, *SHORT, "--json", results)
    assert json.loads(results.read_text())["images"] == 30
    assert done.exit_code == (0 if shown else 1)
    assert shown or "error: the results could not be shown: No space left" in done.stderr


class Leaving(io.StringIO):
    """A pipe whose reader leaves after so many writes."""

    def __init__(self, writes, nowhere):
        super().__init__()
        self.writes, self.nowhere = writes, nowhere

    def write(self, text):
        self.writes -= 1
        if self.writes < 0:
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
        return len(text)

    def fileno(self):
        return self.nowhere.fileno()


@pytest.mark.parametrize("arguments", [("--help",), ("evaluate", "--help")])
def test_help_whose_reader_is_gone_ends_without_a_word(tmp_path, monkeypatch, capsys, arguments):
    ends = set()
    with (tmp_path / "nowhere").open("w") as nowhere:
        for writes in range(40):
            monkeypatch.setattr(sys, "stdout", Leaving(writes, nowhere))
            with pytest.raises(SystemExit) as end:
                app(arguments)
            monkeypatch.undo()
            ends.add(end.value.code or 0)
    assert ends == {0, 1}
    assert capsys.readouterr().err == ""


def test_closed_streams_leave_their_numbers_taken(tmp_path):
    file = str(Path(stream.__file__).parent)
    code = (
        "import stream, os; stream.take_numbers(); print(os.open(os.devnull, 0), file=open(3, 'w'))"
    )
    with (tmp_path / "told").open("w") as told:
        line = f'cd {file}; {sys.executable} -c "{code}" <&- >&- 2>&- 3>&{told.fileno()}'
        subprocess.run(["bash", "-c", line], pass_fds=[told.fileno()], check=True)
    assert int((tmp_path / "told").read_text()) > 2


@pytest.mark.slow
def test_results_that_nobody_reads_are_written(tmp_path, snn):
    results, plot = tmp_path / "r.json", tmp_path / "r.svg"
    told = command("evaluate", snn, *SHORT, "--json", results, "--plot", plot)
    for line in (
        f"{told} | true; exit ${{PIPESTATUS[0]}}",
        f"{told} >&-",
        f"{told} >/dev/full",
        f"PYTHONIOENCODING=ascii {told}",
    ):
        done = shell(line)
        assert done.returncode == (1 if "full" in line else 0), (line, done.stderr)
        assert ("could not be shown: No space left" in done.stderr) == ("full" in line)
        assert "Traceback" not in done.stderr
        assert "Exception ignored" not in done.stderr
        assert json.loads(results.read_text())["images"] == 30, line
        assert plot.read_text().startswith("<?xml")
        results.unlink()
        plot.unlink()


@pytest.mark.slow
def test_standard_output_takes_json_and_nothing_else(snn):
    done = shell(command("evaluate", snn, *SHORT, "--json", "/dev/stdout"))
    assert json.loads(done.stdout)["images"] == 30
    assert "n = 30 images" in done.stderr
    assert stat.S_ISLNK(os.lstat("/dev/stdout").st_mode)
    closed = shell(command("evaluate", snn, *SHORT, "--json", "-") + " >&-")
    assert closed.returncode == 1
    assert "cannot write /dev/stdout: Bad file descriptor" in closed.stderr


@pytest.mark.parametrize("name", ["-", "/dev/stdout", "link"])
def test_standard_output_takes_json_alone(capfd, monkeypatch, tmp_path, name):
    monkeypatch.chdir(tmp_path)
    Path("link").symlink_to("/dev/stdout")
    done = run("models", "--json", name)
    assert done.exit_code == 0
    assert "digits_resnet8" in json.loads(capfd.readouterr().out)
    assert done.stdout == ""
    assert "digits_resnet8" in done.stderr
    assert "digits_resnet8" in run("models").stdout  # the next command says it there again
    assert os.listdir(tmp_path) == ["link"]


@pytest.mark.parametrize("name", ["-", "f.json"])
def test_files_that_are_written_are_told(capfd, monkeypatch, tmp_path, name):
    monkeypatch.chdir(tmp_path)
    done = run("inspect", "digits_resnet8", "--json", name)
    assert done.exit_code == 0
    assert ("wrote " in done.output + capfd.readouterr().err) == (name != "-")


@pytest.mark.parametrize("name", ["null", "fifo"])
def test_devices_and_pipes_stay(tmp_path, snn, name):
    path = Path(os.devnull)
    if name == "fifo":
        path = tmp_path / name
        os.mkfifo(path)
        with subprocess.Popen(["cat", path], stdout=subprocess.PIPE) as reader:
            ok("evaluate", snn, *SHORT, "--json", path)
            assert json.loads(reader.stdout.read())["images"] == 30
    else:
        ok("evaluate", snn, *SHORT, "--json", path, "--resume", path)
    assert not path.is_file()
    assert path.exists()


def test_numbers_that_json_does_not_have_are_refused_by_their_place(tmp_path):
    with pytest.raises(InputError, match=r"rows\.1\.loss is nan"):
        write_json(tmp_path / "r.json", {"rows": [{"loss": 0.5}, {"loss": float("nan")}]})
    assert os.listdir(tmp_path) == []


# Outputs that are inputs


@pytest.fixture
def folder(tmp_path):
    """A data set of two images, as folders of classes and as files of arrays."""
    for name in ("images/test/0/a.png", "images/test/1/b.png"):
        (tmp_path / name).parent.mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    images, labels = np.zeros((2, 8, 8), np.uint8), np.zeros(2, np.int64)
    (tmp_path / "arrays").mkdir()
    np.savez(tmp_path / "arrays" / "test.npz", images=images, labels=labels)
    return tmp_path


def test_no_input_is_an_output(folder, snn, monkeypatch):
    monkeypatch.chdir(folder)
    for name in ("simulate", "convert", "evaluate"):
        monkeypatch.setattr(sr, name, None)  # never reached
    network, weights = folder / "snn.safetensors", folder / "weights.safetensors"
    network.write_bytes(snn.read_bytes())
    weights.write_bytes(snn.read_bytes())
    Path("link").symlink_to(network)
    Path("hard").hardlink_to(network)
    Path("net.onnx").write_bytes(b"")
    Path("net.py").write_text("")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    for arguments in (
        ("evaluate", network, "--json", "./snn.safetensors"),
        ("evaluate", network, "--json", "link"),
        ("evaluate", network, "--resume", "hard"),
        ("evaluate", "link", "--json", network),
        ("diagnose", network, "--json", network),
        ("inspect", network, "--json", network),
        ("inspect", "net.py:build", "--json", "net.py"),
        ("convert", "net.onnx", "--out", "net.onnx"),
        ("convert", "resnet8", "--weights", weights, "--out", weights),
        ("tune", "resnet8", "--weights", weights, "--json", weights),
        ("compare", "resnet8", "--weights", weights, "--table", weights),
        ("train", "--from", weights, "--out", weights),
        ("train", "--teacher", weights, "--out", weights),
    ):
        assert "name another file" in refused(*arguments)
    test = ("evaluate", network, "--dataset")
    assert "is the data set" in refused(*test, "arrays/test.npz", "--json", "arrays/test.npz")
    for dataset, path in (
        ("arrays", "arrays/test.npz"),
        ("images", "images/test/0/a.png"),
        ("images", "images/test/1/accuracy.png"),
    ):
        option = "--plot" if path.endswith("png") else "--json"
        assert f"one of the files of the data set {dataset}" in refused(
            *test, dataset, option, path
        )
    for path, content in before.items():
        assert path.read_bytes() == content


def test_results_may_lie_in_the_folder_of_the_data(folder):
    (folder / "arrays" / "old.json").touch()
    for path in ("arrays/old.json", "arrays/new.npz.json", "arrays/accuracy.png"):
        check_data({"--json": folder / path}, str(folder / "arrays"), None)
        check_data({"--json": folder / path}, "arrays", folder)
    check_data({"--json": folder / "x.png", "--plot": None}, "digits", None)


def test_two_outputs_are_two_files(tmp_path, snn):
    (tmp_path / "link.json").symlink_to(tmp_path / "new.json")
    for path in ("new.json", "link.json"):
        assert "--json and --resume are both" in refused(
            "evaluate", snn, "--json", tmp_path / "new.json", "--resume", tmp_path / path
        )


# Being stopped


@pytest.fixture
def _heeded():
    """Signals mean what they usually do, whatever started the tests (nohup ignores one)."""
    usual = {
        signal.SIGINT: signal.default_int_handler,
        signal.SIGTERM: signal.SIG_DFL,
        signal.SIGHUP: signal.SIG_DFL,
    }
    before = {number: signal.signal(number, handler) for number, handler in usual.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def stopping(monkeypatch, number):
    """From now on the second batch of an evaluation stops it by this signal."""
    whole, calls = sr.simulate, []

    def simulate(*arguments):
        calls.append(1)
        if len(calls) == 2:
            os.kill(os.getpid(), number)
        return whole(*arguments)

    monkeypatch.setattr(sys.modules["spiking_resnet.evaluation.evaluate"], "simulate", simulate)


def stopped(*arguments, code=130):
    """What a command says that was asked to stop, which is no error."""
    result = run(*arguments)
    assert result.exit_code == code, result.output
    assert "error:" not in result.output
    return result.output


@pytest.mark.usefixtures("_heeded")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_what_is_stopped_says_how_to_go_on(tmp_path, monkeypatch, snn, number):
    progress = tmp_path / "progress.json"
    arguments = ("evaluate", snn, *SHORT, "--batch-size", 10, "--resume", progress)
    handlers = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    with monkeypatch.context() as patch:
        stopping(patch, number)
        told = stopped(*arguments, code=128 + number)
    assert "stopped at 10 of 30 images; go on with: spiking-resnet evaluate" in told
    assert json.loads(progress.read_text())["tally"]["images"] == 10
    assert handlers == [
        signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    ]
    with monkeypatch.context() as patch:
        stopping(patch, signal.SIGINT)
        assert "20 of 30 images" in stopped(*arguments)
    ok(*arguments)
    assert os.listdir(tmp_path) == ["progress.json"]


@pytest.mark.usefixtures("_heeded")
def test_counts_are_kept_unasked_until_all_is_done(tmp_path, monkeypatch, snn):
    monkeypatch.setenv("SPIKING_RESNET_CACHE", str(tmp_path))
    arguments = ("evaluate", snn, *SHORT, "--batch-size", 10)
    with monkeypatch.context() as patch:
        stopping(patch, signal.SIGINT)
        told = "".join(stopped(*arguments).splitlines())
    (kept,) = (tmp_path / "progress").iterdir()
    assert json.loads(kept.read_text())["tally"]["images"] == 10
    assert told.endswith(f"--batch-size 10 --resume {kept}")
    whole, goes_on = tmp_path / "whole.json", tmp_path / "on.json"
    ok(*arguments, "--json", whole)
    ok(*arguments, "--json", goes_on, "--resume", kept)
    first, second = (json.loads(path.read_text()) for path in (whole, goes_on))
    assert first["snn"] == second["snn"]
    assert os.listdir(tmp_path / "progress") == [kept.name]  # of the whole run nothing is left


def test_a_cache_folder_that_cannot_be_written_does_no_harm(tmp_path, monkeypatch, snn):
    (tmp_path / "progress").write_text("a file")
    monkeypatch.setenv("SPIKING_RESNET_CACHE", str(tmp_path))
    ok("evaluate", snn, *SHORT)


def test_a_file_of_progress_serves_one_process_at_a_time(tmp_path, snn):
    progress = tmp_path / "progress.json"
    with held(progress):
        assert "is in use by another process" in refused(
            "evaluate", snn, *SHORT, "--resume", progress
        )


def test_a_signal_has_a_number():
    assert Stopped(signal.SIGTERM).number == 15
    assert run("models", "nothing").exit_code == 2


def test_what_others_keep_in_the_cache_folder_stays(tmp_path, monkeypatch, snn):
    monkeypatch.setenv("SPIKING_RESNET_CACHE", str(tmp_path))
    folder = tmp_path / "progress"
    (folder / "notes").mkdir(parents=True)
    old = ["evaluate-20200101-101010-12.json", ".evaluate-20200101-101010-12.json.lock"]
    for name in ("thesis.json", *old):
        (folder / name).write_text("{}")
    for path in folder.iterdir():
        os.utime(path, (0, 0))
    ok("evaluate", snn, "--limit", 4, "--steps", 2)
    assert sorted(os.listdir(folder)) == ["notes", "thesis.json"]


def test_users_without_a_home_evaluate_too(monkeypatch, snn):
    def nowhere():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", nowhere)
    for name in ("SPIKING_RESNET_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    ok("evaluate", snn, "--limit", 4, "--steps", 2)


def test_progress_is_found_from_every_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SPIKING_RESNET_CACHE", "cache")
    assert own_folder() == tmp_path / "cache" / "progress"
    monkeypatch.setenv("SPIKING_RESNET_CACHE", str(tmp_path))
    assert own("progress/evaluate-1.json")


READ_AGAIN = {  # what a command's --json holds
    "evaluate": (sr.Curve, ("SNN", "--steps", "4,8", "--limit", 20, "--per-class")),
    "diagnose": (sr.Diagnosis, ("SNN", "--steps", 4, "--limit", 10)),
    "energy": (sr.Account, ("SNN", "--steps", 4, "--limit", 10)),
    "compare": (sr.Comparison, ("digits_resnet8", "--methods", "hu2021", "--steps", "4", "--limit",
                                10, "--calibration-images", 20)),
    "tune": (sr.Tuning, ("digits_resnet8", "--methods", "hu2021", "--target-loss", 50,
                         "--max-steps", 4, "--validation-images", 40, "--calibration-images", 20)),
}  # fmt: skip


@pytest.mark.parametrize("command", READ_AGAIN)
def test_what_a_command_writes_is_read_as_the_record_of_its_result(command, snn, tmp_path):
    kind, arguments = READ_AGAIN[command]
    path = tmp_path / "found.json"
    ok(command, *(snn if each == "SNN" else each for each in arguments), "--json", path)
    found, told = kind.read(path), json.loads(path.read_text())
    assert {name: told[name] for name in found.to_json()} == json.loads(json.dumps(found.to_json()))
    assert "versions" in told
    assert "versions" not in found.to_json()


def test_a_file_that_holds_something_else_is_refused_by_its_name(tmp_path):
    path = tmp_path / "found.json"
    for text in ("[1]", "{", '{"images": 3}', "[" * 100_000):
        path.write_text(text)
        with pytest.raises(ValueError, match=r"found\.json holds no Curve"):
            sr.Curve.read(path)
    with pytest.raises(FileNotFoundError):
        sr.Curve.read(tmp_path / "none.json")
