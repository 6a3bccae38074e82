import os
from collections import defaultdict
from pathlib import Path
from random import Random

import pytest
import torch

from spiking_resnet.engines.cpu import memory

memory.poisoned = True  # whoever reads memory that was given back finds nonsense
torch.set_num_threads(1)  # also where a module's fixtures are made, before those of its tests


CORE = 2  # sets of parameters of a test that every push runs


def pytest_addoption(parser):
    parser.addoption(
        "--core",
        action="store_true",
        help=f"what every push runs: {CORE} sets of parameters of each test, all of those that are "
        "marked `whole`, and no tests that are marked `sweep`",
    )


def pytest_collection_modifyitems(config, items):
    if not config.getoption("--core"):
        return
    sets, core, left = defaultdict(list), [], []
    for item in items:
        sets[item.nodeid.partition("[")[0]].append(item)
    chosen = set()
    for test, alike in sets.items():
        whole = len(alike) <= CORE or alike[0].get_closest_marker("whole")
        chosen.update(alike if whole else Random(test).sample(alike, CORE))
    for item in items:
        swept = item not in chosen or item.get_closest_marker("sweep")
        (left if swept else core).append(item)
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
