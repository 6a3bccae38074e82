import os
from pathlib import Path

import pytest
import torch

from spiking_resnet.engines.cpu import memory

memory.poisoned = True  # whoever reads memory that was given back finds nonsense
torch.set_num_threads(1)  # also where a module's fixtures are made, before those of its tests


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
