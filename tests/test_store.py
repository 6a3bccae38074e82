import json
import os
import resource
from contextlib import contextmanager

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import spiking_resnet.store as store
from spiking_resnet import StoreError, load, save, simulate
from spiking_resnet.graph import Fire, interpret, tensors
from zoo import NAMES, ann, images, same_tensors, spiking, traced


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("options", [{}, {"per_channel": True, "readout": "membrane"}], ids=str)
def test_what_is_saved_is_loaded(name, options, tmp_path):
    graph, path = spiking(name, **options), tmp_path / "network.safetensors"
    save(graph, path)
    found = load(path)
    assert same_tensors(found, graph)
    assert [type(node) for node in found.nodes] == [type(node) for node in graph.nodes]
    for node in found.nodes:
        for key, value in vars(graph[node.name]).items():
            if key not in tensors(node) and key != "neuron":
                assert getattr(node, key) == value
    assert found.notes == json.loads(json.dumps(graph.notes))
    assert same_tensors(found.ann, graph.ann)
    one = simulate(graph, images(name, 3), 20, trains=list(graph.neurons))
    other = simulate(found, images(name, 3), 20, trains=list(graph.neurons))
    assert torch.equal(one.logits, other.logits)
    assert all(torch.equal(one.trains[layer], train) for layer, train in other.trains.items())


@pytest.mark.parametrize("reset", ["subtract", "zero"])
def test_the_reset_is_kept(reset, tmp_path):
    save(spiking("identity", reset=reset), tmp_path / "a.safetensors")
    found = load(tmp_path / "a.safetensors")
    assert {node.neuron.reset for node in found.of(Fire)} == {reset}


def test_poisson_input_is_kept(tmp_path):
    graph = spiking("identity", input_coding="poisson", seed=9)
    save(graph, tmp_path / "a.safetensors")
    found = load(tmp_path / "a.safetensors")
    assert vars(found.input) == vars(graph.input)


def test_an_artificial_network_is_kept_too(tmp_path):
    save(ann("dense"), tmp_path / "a.safetensors")
    found = load(tmp_path / "a.safetensors")
    batch = images("dense")
    assert torch.equal(interpret.logits(found, batch), interpret.logits(ann("dense"), batch))
    assert found.ann is None


def test_loading_twice_gives_networks_of_their_own(tmp_path):
    path = tmp_path / "a.safetensors"
    save(traced("identity"), path)
    one, other = load(path), load(path)
    first, second = (next(iter(tensors(g.nodes[1]).values())) for g in (one, other))
    assert first.data_ptr() != second.data_ptr()


def test_a_file_can_be_replaced_by_what_was_loaded_from_it(tmp_path):
    path = tmp_path / "a.safetensors"
    save(spiking("identity"), path)
    save(load(path), path)
    assert same_tensors(load(path), spiking("identity"))


def test_names_are_paths_or_strings(tmp_path):
    save(spiking("identity"), str(tmp_path / "a.safetensors"))
    assert same_tensors(load(str(tmp_path / "a.safetensors")), spiking("identity"))


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "network.safetensors"
    save(spiking("identity"), path)
    return path


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.999])
def test_truncated_files_are_refused(file, share):
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(StoreError, match=r"network\.safetensors.*convert the network again"):
        load(file)


def test_other_peoples_files_are_refused(tmp_path):
    path = tmp_path / "weights.safetensors"
    save_file({"weight": torch.ones(3)}, path)
    with pytest.raises(StoreError, match=r"weights\.safetensors holds no spiking network"):
        load(path)


def test_files_that_are_no_safetensors_are_refused(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("not a network, but long enough to have a header of its own")
    with pytest.raises(StoreError, match=r"notes\.txt"):
        load(path)


def rewritten(file, change):
    """The file with its description changed, and no checksum, as older ones have none."""
    with safe_open(file, framework="pt") as opened:
        description = json.loads(opened.metadata()[store.KEY])
    del description["checksum"]
    changed = change(description)
    save_file(load_file(file), file, metadata={store.KEY: changed})


def with_version(description, version):
    return json.dumps({**description, "version": version})


@pytest.mark.parametrize("version", [0, store.VERSION + 1, None, "1"])
def test_other_versions_are_refused(file, version):
    rewritten(file, lambda description: with_version(description, version))
    with pytest.raises(StoreError, match=rf"version '?{version}'?;"):
        load(file)


def test_files_of_version_1_are_read(file):
    """There neurons had no levels and signs."""

    def older(description):
        for node in description["snn"]["nodes"]:
            if "neuron" in node:
                node["neuron"] = {"reset": node["neuron"]["reset"]}
        return with_version(description, 1)

    expected = store.digest(load(file))
    rewritten(file, older)
    assert store.digest(load(file)) == expected


def test_neurons_keep_their_levels_and_signs(tmp_path):
    path = tmp_path / "both.safetensors"
    store.save(spiking("identity", levels=3, signed=True), path)
    for node in load(path).of(Fire):
        assert (node.neuron.levels, node.neuron.signed) == (3, True)


def drop_node_field(description):
    del description["snn"]["nodes"][1]["name"]
    return json.dumps(description)


def foreign_kind(description):
    description["snn"]["nodes"][1]["kind"] = "Lava"
    return json.dumps(description)


def foreign_field(description):
    description["snn"]["nodes"][1]["colour"] = "red"
    return json.dumps(description)


def wrong_shape(description):
    description["snn"]["nodes"][1]["shape"] = [1, 2, 3]
    return json.dumps(description)


DAMAGES = {
    "no_json": lambda description: "{",
    "no_object": lambda description: "[]",
    "no_nodes": lambda description: json.dumps({"version": 1}),
    "field": drop_node_field,
    "kind": foreign_kind,
    "unknown_field": foreign_field,
    "shape": wrong_shape,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_descriptions_are_refused(file, damage):
    rewritten(file, DAMAGES[damage])
    with pytest.raises(StoreError, match=r"network\.safetensors"):
        load(file)


def test_missing_tensors_are_noticed(file):
    with safe_open(file, framework="pt") as opened:
        metadata = opened.metadata()
    arrays = load_file(file)
    arrays.pop(next(name for name in arrays if name.endswith("weight")))
    save_file(arrays, file, metadata=metadata)
    with pytest.raises(StoreError, match="damaged"):
        load(file)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone\.safetensors"):
        load(tmp_path / "gone.safetensors")


def test_a_missing_folder_is_an_error_and_is_not_made(tmp_path):
    with pytest.raises(OSError, match="nowhere"):
        save(spiking("identity"), tmp_path / "nowhere" / "a.safetensors")
    assert list(tmp_path.iterdir()) == []


def full(*arguments, **options):
    raise OSError(28, "No space left on device")


@contextmanager
def files_of_at_most(size):
    """A disk that fills up. For the write alone: the limit would hold for pytest's output too."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_leaves_nothing_behind(tmp_path):
    graph = spiking("dense")
    with files_of_at_most(4096), pytest.raises(OSError, match="too large"):
        save(graph, tmp_path / "a.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_take_its_name_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        save(spiking("dense"), tmp_path / "a.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_the_old_file(file, monkeypatch):
    before = file.read_bytes()
    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        save(spiking("dense"), file)
    assert list(file.parent.iterdir()) == [file]
    assert file.read_bytes() == before
    assert same_tensors(load(file), spiking("identity"))


def test_an_interrupted_write_leaves_nothing_behind(tmp_path, monkeypatch):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        save(spiking("identity"), tmp_path / "a.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_weights_of_torch_are_told_from_networks(tmp_path):
    torch.save({"weight": torch.ones(2, dtype=torch.float32)}, tmp_path / "mine.pt")
    with pytest.raises(StoreError, match=r"file of torch\.save.*--weights \S*mine\.pt"):
        load(tmp_path / "mine.pt")


def test_a_network_is_stored_as_the_same_bytes_every_time():
    """The library that writes the file puts its metadata in any order."""
    graph = spiking("identity")
    assert len({store.packed(graph) for _ in range(12)}) == 1
    assert same_tensors(store.unpacked(store.packed(graph)), graph)
