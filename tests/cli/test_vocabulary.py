"""One name of a method is the same network everywhere: by Python, by command, in comparisons."""

import re

import pytest
import torch
from test_cli import convert_digits, ok, refused

import spiking_resnet as sr
from spiking_resnet import ann, methods
from spiking_resnet.conversion.methods.recipes import (
    ALSO,
    RECIPES,
    entitled,
    recipe_named,
    recipe_of,
)
from spiking_resnet.conversion.presets import taken
from zoo import images, network

QUICK = ("burst", "differential-4", "optimal-potential")  # the others take a minute
UNTRAINED = [name for name, recipe in RECIPES.items() if not recipe.method.trained]


@pytest.fixture(scope="module")
def digits():
    """The digits ResNet-8, its 20 calibration images, and 8 others."""
    found = ann.pretrained("digits_resnet8")
    training, test = (ann.load_dataset("digits", split) for split in ("train", "test"))
    loader = training.loader(50, 20, found.normalisation)
    return found.model, loader, next(iter(test.loader(8, 8, found.normalisation)))[0]


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in QUICK else pytest.mark.slow)
        for name in (*UNTRAINED, *ALSO)
    ],
)
def test_a_name_is_one_network_by_python_and_by_command(name, digits, tmp_path):
    model, calibration, few = digits
    path, recipe = tmp_path / "snn.safetensors", recipe_named(name)
    text = convert_digits(path, "--method", name, "--steps", 4, "--calibration-images", 20)
    assert f"method: {recipe.name}, steps = 4" in text
    typed, written = sr.load(path), sr.convert(model, calibration, name, steps=4)
    assert typed.notes["recipe"] == written.notes["recipe"] == recipe.name
    assert typed.notes["options"] == written.notes["options"]
    one, other = (sr.simulate(graph, few, 4).logits for graph in (typed, written))
    assert torch.equal(one, other)


@pytest.mark.parametrize("command", ["compare", "tune", "convert"])
def test_every_name_is_listed(command):
    text = re.sub(r"\s", "", ok(command, "--help"))
    assert all(name in text for name in RECIPES)


def test_an_option_is_overridden_by_name_and_noted(tmp_path):
    path = tmp_path / "snn.safetensors"
    text = convert_digits(path, "--method", "burst", "--percentile", 97, "--steps", 350)
    assert "method: burst, percentile = 97" in text
    assert sr.load(path).notes["options"]["levels"] == 5
    frames = images("identity", 8)
    made = sr.convert(network("identity"), frames, "burst", percentile=97.0)
    assert made.notes["options"] == sr.load(path).notes["options"]


@pytest.mark.parametrize(
    ("wrong", "near"),
    [
        ("diferential-4", "differential-4"),
        ("serial", "layer-serial"),
        ("Burst", "burst"),
        ("hu-2021", "hu2021"),
    ],
)
def test_an_unknown_name_is_refused_with_the_near_ones_and_the_list(wrong, near):
    with pytest.raises(sr.InputError, match=f"did you mean .*{near}.*There are .*qcfs-cos"):
        sr.convert(network("identity"), images("identity", 4), wrong)
    for command, flag in (("convert", "--method"), ("compare", "--methods"), ("tune", "--methods")):
        assert f"did you mean {near}" in refused(command, "digits_resnet8", flag, wrong)
    with pytest.raises(sr.InputError, match=r"percentil.*did you mean percentile"):
        sr.convert(network("identity"), images("identity", 4), "burst", percentil=97)


def test_a_comparison_takes_names_methods_recipes_and_networks():
    frames, judged = images("identity", 8), images("identity", 6, seed=3)
    snn = sr.convert(network("identity"), frames, "differential-4", steps=4)
    mine = sr.Recipe("mine", "one more", methods.hu2021(percentile=99.0))
    mixed = ["hu2021", methods.hu2021(levels=3), mine, snn, methods.hu2021(per_channel=True)]
    found = sr.compare(network("identity"), frames, judged, mixed, steps=(2, 4))
    assert [row.recipe for row in found.rows] == [
        "hu2021", "hu2021 (2)", "mine", "differential-4", "hu2021-channel"
    ]  # fmt: skip
    assert [sorted(row.readings) for row in found.rows] == [[2, 4], [2, 4], [2, 4], [4], [2, 4]]
    again = sr.compare(network("identity"), frames, judged, "differential-4", steps=(4,))
    (reading,) = again.rows[0].readings.values()
    assert found.rows[3].readings[4] == reading
    named = sr.compare(network("identity"), frames, judged, {"this one": snn}, steps=(2,))
    assert named.rows[0].recipe == "this one"
    assert "made for T = 4" in named.rows[0].problem
    with pytest.warns(DeprecationWarning, match="recipes= is now methods="):
        sr.compare(network("identity"), frames, judged, recipes="hu2021", steps=(2,))


def test_numbers_tell_apart_what_has_one_name_already():
    numbered = sr.Recipe("hu2021 (2)", "named so", methods.hu2021(percentile=99.0))
    two = ("hu2021", methods.hu2021(levels=3), numbered, methods.hu2021(levels=2))
    names = [each.name for each in taken("methods", two)]
    assert names == ["hu2021", "hu2021 (2)", "hu2021 (2) (2)", "hu2021 (3)"]


@pytest.mark.parametrize("nothing", [{}, [], {"": "hu2021"}, {" ": "hu2021"}])
def test_methods_without_entries_or_names_are_refused(nothing):
    with pytest.raises(sr.InputError, match="methods"):
        taken("methods", nothing)


def test_overridden_to_another_method_it_has_that_ones_name():
    name = "differential-4"
    assert entitled(name, levels=1).name == entitled(name, levels=1, steps=9).name
    assert entitled(name, levels=1).name == "differential-1"
    assert entitled(name, levels=3).name == entitled(name, steps=9).name == name


def test_a_network_for_other_images_is_a_problem_of_its_row():
    snn = sr.convert(network("stem_max_pool"), images("stem_max_pool", 8), "hu2021")
    frames, judged = images("identity", 8), images("identity", 6, seed=3)
    found = sr.compare(network("identity"), frames, judged, [snn], steps=(2,))
    assert "takes images" in found.rows[0].problem


@pytest.mark.parametrize("name", RECIPES)
def test_a_method_is_recognised_by_its_options(name):
    recipe = RECIPES[name]
    assert recipe_of(recipe.make(8)) == recipe
    assert recipe.per_steps == (recipe.make(8).steps == 8)
