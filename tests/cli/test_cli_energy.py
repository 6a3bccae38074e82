import json
import re

import pytest
from test_cli import convert_digits, ok, refused

from spiking_resnet.costs.energy import Account
from spiking_resnet.costs.models import known


@pytest.fixture(scope="module")
def snn(tmp_path_factory):
    path = tmp_path_factory.mktemp("snn") / "snn.safetensors"
    convert_digits(path)
    return path


def test_energy_shows_every_model_and_keeps_the_numbers(snn, tmp_path):
    numbers, plot = tmp_path / "energy.json", tmp_path / "even.png"
    text = ok("energy", snn, "--steps", 8, "--limit", 20, "--json", numbers, "--plot", plot,
              "--sources")  # fmt: skip
    assert all(name in text for name in known())
    assert "Uncounted" in text
    assert "Horowitz" in text
    told = json.loads(numbers.read_text())
    facts = ("file", "dataset", "split", "limit", "seed", "normalisation", "models", "command")
    own = {name: value for name, value in told.items() if name not in (*facts, "versions")}
    account = Account.from_json(own)
    assert (account.images, account.steps, account.exact) == (20, 8, True)
    assert [model["name"] for model in told["models"]] == list(known())
    assert plot.stat().st_size > 1000


def test_a_verdict_needs_no_hidden_column_and_advises_nothing_that_is_done(snn, tmp_path):
    plain = ok("energy", snn, "--steps", 64, "--limit", 5, "--models", "yan2024")
    assert "fewer time steps, or several sizes of spikes" in plain
    assert re.search(r"ANN with \d-bit numbers takes [\d.]+ times less \([\d.]+ .J\)", plain)
    several = tmp_path / "four.safetensors"
    convert_digits(several, "--method", "differential-4", "--steps", 4)
    told = ok("energy", several, "--limit", 5, "--models", "yan2024")
    assert "(it has" in told
    assert "several sizes" not in told


def test_energy_takes_a_model_of_ones_own(snn, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(
        'title = "Mine"\nsource = "here"\n[operations]\nresets = { pj = 2, source = "x" }\n'
    )
    text = ok("energy", snn, "--steps", 4, "--limit", 5, "--models", path)
    assert "Mine. No constants for an artificial network. Uncounted: accumulations" in text


def test_energy_refuses_what_it_cannot_use(snn, tmp_path):
    assert "no cost model 'loihi2'" in refused("energy", snn, "--models", "loihi2")
    assert "--steps is 0" in refused("energy", snn, "--steps", 0)
    plotted = refused("energy", snn, "--models", "loihi1", "--plot", tmp_path / "even.png")
    assert "--plot draws where a network breaks even" in plotted
    own = snn.read_bytes()
    assert "--json" in refused("energy", snn, "--limit", 2, "--json", snn)
    assert snn.read_bytes() == own
