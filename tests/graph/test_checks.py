"""The rules of graphs and files: complete, and kept by what is built, saved and loaded."""

import json
from dataclasses import dataclass, fields, replace
from typing import ClassVar, get_args, get_type_hints

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

import spiking_resnet as sr
from spiking_resnet import store
from spiking_resnet.graph import KINDS, Fire, GraphError, MaxPool, Node
from spiking_resnet.graph import fields as plain
from spiking_resnet.graph.exactness import exact_steps
from spiking_resnet.neurons import NEURONS
from spiking_resnet.rules import Rules, whole
from zoo import spiking


def plain_fields(kind):
    """The fields that hold no tensor."""
    hints = get_type_hints(kind)
    return {f.name for f in fields(kind) if Tensor not in (hints[f.name], *get_args(hints[f.name]))}


def test_there_is_a_rule_for_every_field_of_every_kind():
    for kind in KINDS.values():
        assert plain_fields(kind) == {*Node.RULES, *kind.RULES}
        assert {field.name for field in fields(kind)} == {*Node.RULES, *kind.RULES, *kind.TENSORS}
    for kind in NEURONS.values():
        assert plain_fields(kind) == set(kind.RULES)
        assert {field.name for field in fields(kind)} == {*kind.RULES, *kind.TENSORS}


def changed(graph, kind, **values):
    node = graph.of(kind)[0]
    new = replace(node, **values)
    return graph.with_nodes(new if each is node else each for each in graph.nodes)


@pytest.mark.parametrize(
    "values",
    [{"stride": (0, 0)}, {"stride": (-1, -1)}, {"kernel": (2**62, 2)}, {"kernel": (2.0, 2)},
     {"padding": (2, 2)}, {"rule": "often"}, {"ceil_mode": 1}, {"grid": -5}, {"grid": 1.5},
     {"grid": True}, {"step_bound": float("nan")}, {"shape": (4096, 2, 2)}, {"name": 5}],
    ids=str,
)  # fmt: skip
def test_a_pool_is_refused_with_its_name_and_the_rule(values):
    name = repr(values.get("name", spiking("inner_max_pool").of(MaxPool)[0].name))
    with pytest.raises(GraphError, match=name):
        changed(spiking("inner_max_pool"), MaxPool, **values)


@pytest.mark.parametrize(
    ("tensor", "said"),
    [(torch.zeros(()), "positive"), (-torch.ones(()), "positive"), (torch.ones(2), "shape"),
     (torch.ones((), dtype=torch.int8), "int8"), (torch.full((), 1.0 + 2.0**-20), "grid"),
     (torch.full((), float("nan")), "NaN"), (torch.full((), 1e30), "beyond")],
)  # fmt: skip
def test_a_threshold_is_positive_finite_and_on_its_grid(tensor, said):
    graph = spiking("identity")
    neuron = replace(graph.of(Fire)[0].neuron, threshold=tensor)
    with pytest.raises(GraphError, match=f"threshold.*{said}"):
        changed(graph, Fire, neuron=neuron)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "network.safetensors"
    sr.save(spiking("mlp"), path)
    return path


def test_a_bound_that_lies_is_not_believed(tmp_path):
    graph, path = spiking("identity"), tmp_path / "lie.safetensors"
    lying = graph.with_nodes(
        replace(node, step_bound=0.0) if isinstance(node, Fire) else node for node in graph.nodes
    )
    sr.save(lying, path)
    assert exact_steps(sr.load(path)) == exact_steps(graph) < exact_steps(lying)


def test_every_damaged_bit_is_noticed(file):
    content = file.read_bytes()
    header = int.from_bytes(content[:8], "little")
    places = [*range(0, header, header // 120), *range(header, len(content), len(content) // 60)]
    for i, place in enumerate(places):
        bad = bytearray(content)
        bad[place] ^= 1 << i % 8
        file.write_bytes(bad)
        with pytest.raises(sr.StoreError):
            sr.load(file)


def test_a_file_cut_short_anywhere_is_refused(file):
    content = file.read_bytes()
    for length in range(0, len(content), max(64, len(content) // 150 // 64 * 64)):
        file.write_bytes(content[:length])
        with pytest.raises(sr.StoreError):
            sr.load(file)


def test_files_without_a_checksum_are_read(file):
    before = store.digest(sr.load(file))
    with safe_open(file, framework="pt") as opened:
        description = json.loads(opened.metadata()[store.KEY])
    del description["checksum"]
    save_file(load_file(file), file, metadata={store.KEY: json.dumps(description)})
    assert store.digest(sr.load(file)) == before


@pytest.mark.parametrize("kind", ["folder", "pickle"])
def test_what_is_no_file_of_ours_is_refused(kind, tmp_path):
    path = tmp_path / "network.safetensors"
    path.mkdir() if kind == "folder" else torch.save({"weight": torch.ones(3)}, path)
    with pytest.raises(sr.StoreError, match=r"network\.safetensors"):
        sr.load(path)


@pytest.mark.parametrize("text", ["[" * 10_000, '{"a":' * 10_000, "null", "5", '{"a":1,"a":2}'])
def test_descriptions_of_any_form_are_refused(text, file):
    save_file(load_file(file), file, metadata={store.KEY: text})
    with pytest.raises(sr.StoreError):
        sr.load(file)


def test_notes_that_json_cannot_hold_are_refused_by_name(tmp_path):
    deep = []
    for _ in range(2000):
        deep = [deep]
    for value, said in ((torch.ones(1), r"notes\['mine'\]\['x'\] is a Tensor"), (deep, "nested")):
        with pytest.raises(sr.StoreError, match=said):
            sr.save(spiking("mlp").with_notes({"mine": {"x": value}}), tmp_path / "a.safetensors")
    with pytest.raises(IsADirectoryError, match="folder"):
        sr.save(spiking("mlp"), tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("notes", [[1], None, 5, {"thresholds": [1]}, {"normalisation": {}}])
def test_notes_of_another_form_are_refused(notes):
    with pytest.raises(GraphError, match="notes"):
        replace(spiking("mlp"), notes=notes)


def test_a_kind_that_is_defined_again_keeps_its_new_rules(monkeypatch):
    def repeated(most):
        @dataclass(frozen=True, eq=False, kw_only=True)
        class Repeat(Node):
            times: int
            RULES: ClassVar[Rules] = {"times": whole(1, most)}

        monkeypatch.setitem(KINDS, "Repeat", Repeat)
        return Repeat(name="a", inputs=("b",), shape=(1,), times=5)

    assert not list(plain.problems(repeated(9)))
    assert list(plain.problems(repeated(4)))
