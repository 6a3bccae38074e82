"""An NIR file is judged by readers that share nothing with the engines."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import zoo
from spiking_resnet.export.nir import clients
from spiking_resnet.export.nir.executor import Rule, by_nir_alone, execute, packed
from spiking_resnet.export.nir.file import NirError, sheet
from spiking_resnet.export.nir.verification import GOLDEN, OWN
from spiking_resnet.export.nir.verify import verify
from spiking_resnet.export.nir.write import to_nir
from spiking_resnet.records import InputError

nir = pytest.importorskip("nir")

STEPS = 12


@pytest.fixture(autouse=True)
def _no_clients(monkeypatch):
    monkeypatch.setattr(clients, "installed", lambda pythons=(): iter(()))


def written(path, name="identity", profile="plain", images=None, **options):
    to_nir(zoo.spiking(name, **options), path, profile=profile, steps=STEPS, images=images)
    return path


def by_name(found):
    return {each.reader: each for each in found.readings}


@pytest.mark.parametrize("profile", ["plain", "norse", "spikingjelly", "sinabs"])
@pytest.mark.parametrize("name", ["option_a", "average_of_49", "grouped", "mlp"])
def test_the_executor_fires_the_engines_spikes(name, profile, tmp_path):
    frames = zoo.images(name, 4)
    found = verify(written(tmp_path / "snn.nir", name, profile, frames))
    assert found.sound
    assert found.profile == profile
    assert by_name(found).keys() >= {OWN, GOLDEN}
    assert (found.images, found.steps) == (4, STEPS)
    assert found.spikes > 0


def test_a_reader_that_resets_to_zero_is_told_from_one_that_subtracts(tmp_path):
    frames, labels = zoo.images("identity", 4), torch.zeros(4, dtype=torch.int64)
    found = by_name(verify(written(tmp_path / "snn.nir"), frames, labels=labels))
    zero = found["executor, NIR alone, reset to zero"]
    subtract = found["executor, NIR alone, reset by subtraction"]
    assert zero.different
    assert "resets to zero" in zero.why
    assert "resets" not in subtract.why
    assert "starts at 0" in subtract.why
    assert zero.explained
    assert 1 <= zero.step <= STEPS
    assert zero.layer in zoo.spiking("identity").neurons
    assert all(0 <= each.same <= 4 and 0 <= each.right <= 4 for each in (zero, subtract))


def test_what_matters_first_is_said_first(tmp_path):
    """Without a start and above the threshold only, the start is what changes the first spike."""
    found = by_name(verify(written(tmp_path / "snn.nir"), zoo.images("identity", 4)))
    assert found["executor, NIR alone, reset by subtraction"].why.startswith("starts at 0")


def test_golden_spikes_that_are_not_the_files_are_found(tmp_path):
    frames, path = zoo.images("identity", 3), tmp_path / "snn.nir"
    h5py = pytest.importorskip("h5py")
    written(path, images=frames)
    layer = next(iter(sheet(path).nodes.keys() & h5py.File(path)["nodes"].keys() - {"input"}))
    with h5py.File(path, "r+") as file:
        spikes = file["nodes"][layer]["observables/spikes/data"]
        spikes[1, 4, 2] = not spikes[1, 4, 2]
    found = verify(path)
    assert not found.sound
    golden = by_name(found)[GOLDEN]
    assert (golden.different, golden.step) == (1, 5)


def heard(path, frames, rule, **changes):
    trains, output = execute(sheet(path), frames, STEPS, rule)
    return clients.Heard(trains, output, "some 1.0")


def with_client(monkeypatch, rule, answer):
    some = clients.Client("some", "some", rule, "norse")
    monkeypatch.setattr(clients, "installed", lambda pythons=(): iter([(some, "python")]))
    monkeypatch.setattr(clients, "run", answer)


def test_a_client_that_steps_otherwise_is_explained_spike_by_spike(tmp_path, monkeypatch):
    path, frames = written(tmp_path / "snn.nir"), zoo.images("identity", 4)
    for rule in (by_nir_alone("zero"), Rule(reset="subtract", several=True, clamped=True)):
        with_client(monkeypatch, rule, lambda *_args, rule=rule: heard(path, frames, rule))
        found = by_name(verify(path, frames))["some"]
        assert found.different
        assert found.explained
        assert found.why
        assert found.versions == "some 1.0"


def test_a_client_that_does_something_else_is_not_explained(tmp_path, monkeypatch):
    path, frames = written(tmp_path / "snn.nir"), zoo.images("identity", 4)
    rule = by_nir_alone("zero")

    def wrong(*_args):
        found = heard(path, frames, rule)
        last = next(iter(found.trains))
        values = {name: found.trains[name].flatten(2).clone() for name in found.trains}
        values[last][6, 1] = 1 - values[last][6, 1]
        return replace(found, trains=packed(values, found.trains.shapes))

    with_client(monkeypatch, rule, wrong)
    reading = by_name(verify(path, frames))["some"]
    assert reading.explained is False
    assert "from step 7" in reading.why


def test_a_client_that_fails_is_told(tmp_path, monkeypatch):
    def failing(*_args):
        raise RuntimeError("TypeError: unknown field v_reset")

    path = written(tmp_path / "snn.nir")
    with_client(monkeypatch, by_nir_alone("zero"), failing)
    reading = by_name(verify(path, zoo.images("identity", 2)))["some"]
    assert reading.different is None
    assert "v_reset" in reading.problem


def test_spikes_of_any_size_are_packed_and_unpacked():
    train = torch.tensor([[[0, 1, 1]], [[1, 0, 0]]])
    assert torch.equal(packed({"a": train}, {"a": (3,)})["a"].int(), train.int())
    assert torch.equal(packed({"a": train * 3}, {"a": (3,)})["a"].int(), train.int() * 3)


def test_the_executor_knows_several_spikes_and_clamps():
    one = {"r": np.ones(1), "v_threshold": np.ones(1)}
    graph = nir.NIRGraph(
        {"a": nir.Input(np.array([1])), "b": nir.IF(**one), "c": nir.Output(np.array([1]))},
        [("a", "b"), ("b", "c")],
    )

    def fired(value, **rule):
        rule = Rule(reset="subtract", **rule)
        return execute(sheet(graph), torch.tensor([[value]]), 4, rule)[1].flatten().tolist()

    assert fired(2.5) == [1, 1, 1, 1]
    assert fired(2.5, several=True) == [2, 3, 2, 3]
    assert fired(0.5, strict=True) == [0, 0, 1, 0]
    assert fired(0.5) == [0, 1, 0, 1]


def test_images_and_steps_are_those_of_the_file_unless_given(tmp_path):
    path = written(tmp_path / "snn.nir")
    with pytest.raises(InputError, match="no golden spikes"):
        verify(path)
    frames = zoo.images("identity", 2)
    assert verify(path, frames, 3).steps == 3
    with pytest.raises(InputError, match="steps is 0"):
        verify(path, frames, 0)
    with pytest.raises(InputError, match="one for each"):
        verify(path, frames, labels=torch.zeros(3, dtype=torch.int64))


def test_golden_spikes_that_are_not_of_the_network_are_refused(tmp_path):
    h5py, path = pytest.importorskip("h5py"), tmp_path / "snn.nir"
    layer = next(name for name, node in to_nir(zoo.spiking("identity")).nodes.items()
                 if type(node) is nir.IF)  # fmt: skip
    for node, values in (
        ("input", np.zeros((3, 1, 5))), ("input", np.zeros((0, 0, 0))), ("input", np.zeros(())),
        (layer, np.zeros((3, 4, 2), bool)), (layer, np.zeros((3, 0, 256), bool)), (layer, None),
    ):  # fmt: skip
        written(path, images=zoo.images("identity", 3))
        with h5py.File(path, "r+") as file:
            (kept,) = file["nodes"][node]["observables"].values()
            del kept["data"]
            if values is None:
                del file["nodes"][node]
            else:
                kept["data"] = values
        with pytest.raises(NirError, match="golden spikes"):
            verify(path)


def test_layers_of_one_name_and_changes_that_are_no_list_are_no_trouble(tmp_path):
    path = tmp_path / "snn.nir"
    drawn = to_nir(zoo.spiking("identity"), steps=STEPS)
    for node in drawn.nodes.values():
        node.metadata["name"] = "same"
    drawn.metadata["changes"] = "5"
    nir.write(path, drawn)
    assert verify(path, zoo.images("identity", 2)).sound


def test_a_file_whose_writer_still_holds_it_is_read(tmp_path):
    fcntl = pytest.importorskip("fcntl")
    path = written(tmp_path / "snn.nir", images=zoo.images("identity", 2))
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert verify(path).sound
