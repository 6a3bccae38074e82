"""A process that runs commands for tests: it imports the package once, and forks for every call."""

import json
import os
import subprocess
import sys
from pathlib import Path

import spiking_resnet

BEFORE = """
import json, os, sys, time, traceback
import torch
from spiking_resnet.cli import app
import matplotlib.figure, torchvision, torch._export, spiking_resnet.report.figure

torch.set_num_threads(1)

def run(folder, log, arguments):
    # what a forked process does: a command in a folder, what it says goes to a file
    os.chdir(folder)
    log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for number in (1, 2):
        os.dup2(log, number)
    sys.stdout, sys.stderr = (open(n, "w", closefd=False) for n in (1, 2))
    code = 70
    try:
        app(arguments, prog_name="spiking-resnet")
    except SystemExit as end:
        code = end.code or 0
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
"""
AFTER = """
print("ready", flush=True)
for line in sys.stdin:
    print(json.dumps(answer(json.loads(line))), flush=True)
"""


class Server:
    """Answers calls. answer: source that defines `answer(call)`; it may fork, and `run` there."""

    def __init__(self, answer):
        source = str(Path(spiking_resnet.__file__).parents[1])
        self.process = subprocess.Popen(
            [sys.executable, "-c", BEFORE + answer + AFTER],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": source, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        assert self.process.stdout.readline() == "ready\n"

    def answer(self, **call):
        """What `answer` returns; both are JSON."""
        self.process.stdin.write(f"{json.dumps(call)}\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def close(self):
        """End the process."""
        self.process.stdin.close()
        self.process.wait()
