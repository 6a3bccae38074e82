"""Commands whose work several processes share, as under torchrun: really processes.

A server imports the package once and forks the processes of every call; like torchrun it ends all
of them once one has failed.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import spiking_resnet
from command_server import Server

ANSWER = """
import signal, socket
from spiking_resnet import files

files.WORK_PER_SAVING = 0.0  # a file after every batch

def counted(path):
    with open(path) as file:
        found = json.load(file)
    begun = found if "tally" in found else found.get("begun", {})
    return 1000 * len(found.get("parts", ())) + begun.get("tally", {"images": 0})["images"]

def stop_once(images):
    # the process that writes that so many images are counted stops, until it is told to go on
    replace = files._replace
    def and_stop(target, content):
        replace(target, content)
        if target.name == "progress.json" and counted(target) >= images:
            files._replace = replace
            os.kill(os.getpid(), signal.SIGSTOP)
    files._replace = and_stop

def answer(call):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    running, ends = {}, {}
    for rank in range(call["count"]):
        child = os.fork()
        if child == 0:
            os.environ.update(
                RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(call["count"]),
                LOCAL_WORLD_SIZE=str(call["count"]), MASTER_ADDR="127.0.0.1",
                MASTER_PORT=str(port), OMP_NUM_THREADS="2",
            )
            if call["kill"]:
                stop_once(call["kill"][1])
            arguments = call["arguments"][rank % len(call["arguments"])]
            run(call["folder"], f"../log{rank}", arguments)
        running[child] = rank
    while running:
        child, status = os.waitpid(-1, os.WUNTRACED)
        if os.WIFSTOPPED(status):
            os.kill(next(c for c, r in running.items() if r == call["kill"][0]), signal.SIGKILL)
            os.kill(child, signal.SIGCONT)
            continue
        rank = running.pop(child)
        ends[rank] = os.waitstatus_to_exitcode(status)
        if ends[rank]:
            time.sleep(0.1)
            for other in running:
                os.kill(other, signal.SIGTERM)
    return [ends[rank] for rank in range(call["count"])]
"""
DIGITS = ("digits_resnet8", "--calibration-images", 60)
EVALUATE = (
    "evaluate", "../snn.safetensors", "--limit", 200, "--steps", "4,16", "--batch-size", 10,
    "--resume", "progress.json", "--json", "r.json",
)  # fmt: skip
COMPARE = (
    "compare", *DIGITS, "--methods", "hu2021,signed", "--steps", "4,16", "--limit", 80,
    "--batch-size", 10, "--resume", "progress.json", "--json", "r.json", "--table", "t.md",
)  # fmt: skip
TUNE = (
    "tune", *DIGITS, "--methods", "hu2021", "--validation-images", 40, "--max-steps", 8,
    "--target-loss", 0, "--resume", "progress.json", "--json", "r.json",
)  # fmt: skip
REPRODUCE = (
    "reproduce", "widths", "--data", ".", "--networks", "digits_resnet8", "--images", 20,
    "--out", ".",
)  # fmt: skip


class Sharing(Server):
    """Runs commands in several processes."""

    def call(self, folder, *arguments, count=1, kill=None):
        """The exit codes of `count` processes; kill: [rank, after so many images]."""
        folder.mkdir(exist_ok=True)
        given = [[str(one) for one in each] for each in arguments]
        return self.answer(folder=str(folder), arguments=given, count=count, kill=kill)


@pytest.fixture(scope="module")
def server():
    server = Sharing(ANSWER)
    yield server
    server.close()


@pytest.fixture(scope="module")
def place(server, tmp_path_factory):
    """A folder with a spiking network."""
    folder = tmp_path_factory.mktemp("shared")
    convert = ("convert", *DIGITS, "--steps", 16, "--out", "../snn.safetensors")
    assert server.call(folder / "convert", convert, count=2) == [0, 0], log(folder)
    assert log(folder).count("wrote") == 1
    assert log(folder, 1) == ""
    return folder


def log(folder, rank=0):
    return (folder / f"log{rank}").read_text()


def results(folder):
    """What the files of a folder say, by name, without times; of progress what is counted."""
    found = {}
    for path in sorted(folder.glob("[!.]*")):
        content = path.read_text() if path.suffix in (".json", ".md") else ""
        found[path.name] = timeless(json.loads(content)) if path.suffix == ".json" else content
    return found


def timeless(found):
    if isinstance(found, dict):
        return {name: timeless(each) for name, each in found.items() if name != "seconds"}
    return [timeless(each) for each in found] if isinstance(found, list) else found


@pytest.fixture(scope="module")
def whole(server, place):
    """What one process makes of a command: the files, and the exit code."""
    known = {}

    def made(command):
        if command not in known:
            folder = place / f"whole {command[0]}"
            (code,) = server.call(folder, command)
            known[command] = results(folder), code
        return known[command]

    return made


def without_times_in_tables(found):
    return {name: each for name, each in found.items() if not name.endswith(".md")}


def slow(*values):
    return pytest.param(*values, marks=pytest.mark.slow)


def swept(*values):
    return pytest.param(*values, marks=pytest.mark.sweep)


@pytest.mark.parametrize(
    "command",
    [EVALUATE, swept(COMPARE), slow(TUNE), slow(REPRODUCE)],
    ids=lambda command: command[0],
)
def test_two_processes_give_the_files_of_one(server, place, whole, command):
    expected, code = whole(command)
    folder = place / f"two {command[0]}"
    assert server.call(folder, command, count=2) == [code] * 2, log(place)
    assert without_times_in_tables(results(folder)) == without_times_in_tables(expected)
    assert results(folder).keys() == expected.keys()
    assert log(place, 1) == ""


@pytest.mark.parametrize(
    ("command", "rank"),
    [(EVALUATE, 0), (EVALUATE, 1), slow(COMPARE, 0), slow(COMPARE, 1)],
    ids=lambda given: given if isinstance(given, int) else given[0],
)
def test_one_of_them_killed_the_same_command_goes_on(server, place, whole, command, rank):
    expected, _ = whole(command)
    folder = place / f"killed {command[0]} {rank}"
    ends = server.call(folder, command, count=2, kill=[rank, 40])
    assert ends[rank] == -9
    assert ends[1 - rank] != 0
    kept = json.loads((folder / "progress.json").read_text())
    counted = kept if "tally" in kept else kept["begun"]
    assert kept.get("parts") or 40 <= counted["tally"]["images"] < 200
    assert [path.name for path in folder.iterdir() if path.name[0] != "."] == ["progress.json"]
    assert server.call(folder, command, count=3) == [0] * 3, log(place)
    assert without_times_in_tables(results(folder)) == without_times_in_tables(expected)


@pytest.mark.sweep
def test_one_process_goes_on_for_two_and_two_for_one(server, place, whole):
    expected, _ = whole(EVALUATE)
    for before, after in ((1, 2), (2, 1)):
        folder = place / f"{before} then {after}"
        assert server.call(folder, EVALUATE, count=before, kill=[0, 60])[0] == -9
        assert server.call(folder, EVALUATE, count=after) == [0] * after
        assert results(folder) == expected


def test_an_error_is_said_once_and_ends_all(server, place):
    folder = place / "failing"
    missing = ("evaluate", "missing.safetensors", *EVALUATE[2:])
    for arguments, said in (((EVALUATE, missing), [1]), ((missing,), [0, 1])):
        ends = server.call(folder, *arguments, count=2)
        assert 0 not in ends
        assert 2 in ends
        told = [
            log(place, rank).count("error: missing.safetensors does not exist") for rank in (0, 1)
        ]
        assert sum(told) == 1
        assert told.index(1) in said
        assert "Traceback" not in log(place) + log(place, 1)
        assert not (folder / "r.json").exists()
    assert 2 in server.call(folder, ("evaluate", "--no-such-option"), count=2)
    assert sum("No such option" in log(place, rank) for rank in (0, 1)) == 1


@pytest.mark.slow
def test_torchrun_itself(place, whole):
    expected, _ = whole(EVALUATE)
    folder = place / "torchrun"
    folder.mkdir()
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2",
               "-m", "spiking_resnet.cli", *map(str, EVALUATE)]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(Path(spiking_resnet.__file__).parents[1])}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False,
        timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("wrote r.json") == 1
    found = results(folder)
    assert found["r.json"] | {"threads": 1} == expected["r.json"] | {"threads": 1}
