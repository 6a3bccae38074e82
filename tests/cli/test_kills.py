"""Every command, killed at random moments and called again, ends as if it had not been.

A server imports the package once and forks a process for every call; killed ones get SIGKILL.
"""

import json
import os
import random

import pytest
from safetensors.torch import load_file

from command_server import Server
from spiking_resnet.ann.checkpoint import load

ANSWER = """
def answer(call):
    began, child = time.monotonic(), os.fork()
    if child == 0:
        run(call["folder"], os.devnull if call["limit"] else call["log"], call["arguments"])
    status, done = None, 0
    while not done:
        done, status = os.waitpid(child, os.WNOHANG)
        if not done and call["limit"] and time.monotonic() - began > call["limit"]:
            os.kill(child, 9)
            done, status = os.waitpid(child, 0)
        time.sleep(0.002)
    return [os.waitstatus_to_exitcode(status), time.monotonic() - began]
"""
TIMES = int(os.environ.get("SPIKING_RESNET_KILLS", "20"))
DIGITS = ("digits_resnet8", "--calibration-images", 60)
EVALUATE = (
    "evaluate", "../snn.safetensors", "--limit", 300, "--steps", "4,16", "--batch-size", 10,
    "--resume", "progress.json", "--json", "r.json", "--plot", "p.svg",
)  # fmt: skip
TRAIN = (
    "train", "--model", "resnet8", "--dataset", "digits", "--width", 8, "--epochs", 2,
    "--held-out", 100, "--out", "net.safetensors",
)  # fmt: skip
COMMANDS = {
    "demo": ("demo", "--dataset", "digits", "--limit", 20, "--steps", "4,8"),
    "train": TRAIN,
    "convert": ("convert", *DIGITS, "--steps", 16),
    "evaluate": EVALUATE,
    "compare": (
        "compare", *DIGITS, "--methods", "hu2021,signed", "--steps", "4,16", "--limit", 60,
        "--batch-size", 10, "--resume", "progress.json", "--json", "r.json", "--table", "t.md",
    ),
    "tune": (
        "tune", *DIGITS, "--methods", "hu2021", "--validation-images", 40, "--max-steps", 8,
        "--target-loss", 0, "--resume", "progress.json", "--json", "r.json",
    ),
    "diagnose": (
        "diagnose", "../snn.safetensors", "--limit", 20, "--steps", 4, "--json", "r.json", "--plot",
        "p.svg",
    ),
    "reproduce": (
        "reproduce", "widths", "--data", ".", "--networks", "digits_resnet8", "--images", 20,
        "--out", ".",
    ),
    "models": ("models", "--json", "r.json", "--cards", "c.md"),
}  # fmt: skip


class Killing(Server):
    """Runs commands, and kills them after a time limit."""

    def call(self, folder, arguments, limit=0.0):
        """(exit code, seconds); -9 for one that was killed after so many seconds."""
        given = [str(each) for each in arguments]
        log = str(folder.parent / "log")
        return self.answer(folder=str(folder), arguments=given, limit=limit, log=log)


@pytest.fixture(scope="module")
def server():
    server = Killing(ANSWER)
    yield server
    server.close()


@pytest.fixture(scope="module")
def place(server, tmp_path_factory):
    """A folder with a spiking network."""
    folder = tmp_path_factory.mktemp("killed")
    (folder / "convert").mkdir()
    convert = ("convert", *DIGITS, "--steps", 16, "--out", "../snn.safetensors")
    assert server.call(folder / "convert", convert)[0] == 0, (folder / "log").read_text()
    return folder


def numbers(content):
    """JSON without times and what was typed."""
    if isinstance(content, dict):
        return {k: numbers(v) for k, v in content.items() if k not in ("seconds", "command")}
    return [numbers(each) for each in content] if isinstance(content, list) else content


def results(folder):
    """What the files of a folder say, by name, without times."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.suffix == ".json":
            content = json.loads(path.read_text())
            found[name] = numbers(content)
            if name == "progress.json":
                found[name] = sorted(content)
        elif name == "net.safetensors":
            weights = {key: value.tolist() for key, value in load_file(path).items()}
            found[name] = [weights, numbers(load(path).metadata)]
        elif path.suffix in (".safetensors", ".png"):
            found[name] = path.read_bytes()
        else:
            found[name] = path.is_file()
    return found


def done(folder):
    """How much of the work the files of a folder hold."""
    progress = folder / "progress.json"
    if progress.is_file():
        found = json.loads(progress.read_text())
        counted = found if "tally" in found else found.get("begun", {})
        return len(found.get("parts", ())), counted.get("tally", {"images": 0})["images"]
    return len(list(folder.glob("widths_*.json"))), 0


def killed(server, place, name, times, seed):
    """What is left of a command that was killed so often and then ended, and what it should be."""
    dice, arguments = random.Random(seed), COMMANDS[name]
    whole, folder = (place / f"{name} {seed} {kind}" for kind in ("whole", "killed"))
    for each in (whole, folder):
        each.mkdir()
    ends, seconds = server.call(whole, arguments)
    expected = 1 if name == "tune" else 0  # no method is so good
    assert ends == expected, (place / "log").read_text()
    reached, stopped = (0, 0), 0
    for _ in range(times):
        code, _ = server.call(folder, arguments, 0.02 + dice.random() * seconds)
        assert code in (ends, -9)
        stopped += code == -9
        now = done(folder)
        assert now >= reached
        reached = now
    code, again = server.call(folder, arguments)
    assert code == ends, (place / "log").read_text()
    print(
        f"{name}: {seconds:.2f} s, {stopped} of {times} killed, then {again:.2f} s; {reached}",
        flush=True,
    )
    return results(folder), results(whole)


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_killed_many_times(server, place, name):
    left, expected = killed(server, place, name, TIMES, seed=len(name))
    assert left == expected


@pytest.mark.slow
@pytest.mark.parametrize("name", ["evaluate", "train"])
def test_killed_early_again_and_again_it_still_ends(server, place, name):
    """A job that never has the time of the whole advances from kill to kill."""
    whole, folder = place / f"{name} whole", place / f"{name} often"
    for each in (whole, folder):
        each.mkdir()
    _, seconds = server.call(whole, COMMANDS[name])
    calls = [server.call(folder, COMMANDS[name], 0.7 * seconds)[0] for _ in range(25)]
    assert calls[0] == -9
    assert 0 in calls
    assert results(folder) == results(whole)
