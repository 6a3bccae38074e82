import os
from collections import Counter
from pathlib import Path

import pytest
import torch

from spiking_resnet.engines.cpu import memory

memory.poisoned = True  # whoever reads memory that was given back finds nonsense
torch.set_num_threads(1)  # also where a module's fixtures are made, before those of its tests


def pytest_addoption(parser):
    parser.addoption(
        "--core",
        action="store_true",
        help="what every push runs: no tests marked `sweep`, and of those marked `sampled(n)` the "
        "first of every n sets of parameters",
    )


def pytest_collection_modifyitems(config, items):
    if not config.getoption("--core"):
        return
    seen, core, left = Counter(), [], []
    for item in items:
        sampled = item.get_closest_marker("sampled")
        test = item.nodeid.partition("[")[0]
        skipped = sampled is not None and seen[test] % sampled.args[0] != 0
        seen[test] += 1
        (left if skipped or item.get_closest_marker("sweep") else core).append(item)
    items[:] = core
    config.hook.pytest_deselected(items=left)


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # the resume tests compare bits, which depend on it
    yield
    torch.set_num_threads(before)


@pytest.fixture
def real_data():
    root = os.environ.get("SPIKING_RESNET_DATA")
    if not root:
        pytest.skip("SPIKING_RESNET_DATA is not set: no real data sets and third-party weights")
    return Path(root)
