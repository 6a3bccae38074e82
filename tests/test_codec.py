"""Every record writes itself as JSON and reads itself, and nothing else."""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from fractions import Fraction
from importlib import import_module
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import spiking_resnet
from spiking_resnet.ann.images import NORMALISATIONS, Normalisation
from spiking_resnet.ann.pixels import Framing
from spiking_resnet.ann.resnet import ResNetConfig
from spiking_resnet.codec import ANY, FIELDS, Record, RecordError, form, same
from spiking_resnet.conversion import methods
from spiking_resnet.costs.models import BySize, Model, Price, known
from spiking_resnet.evaluation.compare import Comparison, Entry
from spiking_resnet.evaluation.counts import Tally
from spiking_resnet.evaluation.diagnosis import CONTRIBUTIONS, Diagnosis, LayerError, Part
from spiking_resnet.evaluation.trials import Trial, Tuning
from spiking_resnet.records import Curve, Point, Stop, Stopped

pytestmark = pytest.mark.whole

ROOT = Path(spiking_resnet.__file__).parent
for path in sorted(ROOT.rglob("[!_]*.py")):
    import_module(".".join((ROOT.name, *path.relative_to(ROOT).with_suffix("").parts)))


def kinds(root=Record):
    for kind in root.__subclasses__():
        if kind.__module__.startswith("spiking_resnet"):
            yield kind
            yield from kinds(kind)


KINDS = sorted(kinds(), key=lambda kind: kind.__name__)
WHOLE = {  # that check their fields
    Normalisation: st.sampled_from(list(NORMALISATIONS.values())),
    Framing: st.sampled_from([Framing(), Framing(8, 8, "nearest")]),
    ResNetConfig: st.sampled_from([ResNetConfig(), ResNetConfig(14, 5, 1, 8)]),
    Price: st.sampled_from([Price(0.9, "s"), Price(20.0, "s", "bit")]),
    BySize: st.just(BySize(32, (8.0, 32.0), (10.0, 20.0), "s")),
    Model: st.sampled_from([known()["yan2024"], known()["loihi1"]]),
    Tally: st.sampled_from(
        [
            Tally((4,), images=6, correct=(5,), spikes={"a": (7,)}, spans=((0, 2), (4, 8))),
            Tally((2, 4), "mse", 3, squared=(Fraction(1, 3), Fraction(2)), remark="r", remark_at=2),
            Tally((4,), "mse", 1, apart=(Fraction(5),), ann_squared=Fraction(1, 8)),
        ]
    ),
    Stop: st.sampled_from([Stop(0.9, (4,), ()), Stop(1.0, (1, 3), (None,), network="a")]),
    Stopped: st.sampled_from(
        [
            Stopped(
                Stop(0.5, (1, 2, 4), (None, 0.25)),
                3,
                (0, 1, 2),
                0.5,
                (0.25, 0.75),
                agreement,
                0.5,
                1,
                2,
                8.0,
                64.0,
                {"a": 8.0},
                Point(4, 0.5, (0.0, 1.0), None, 9.0, 0.5, {}),
                96.0,
            )
            for agreement in (None, 0.75)
        ]
    ),
}
FORMS = {(Trial, "method"): st.sampled_from([methods.hu2021(), methods.dcgs(steps=4)])}


def values(hint: Any) -> st.SearchStrategy[Any]:
    """Values of a type hint."""
    origin, inner = get_origin(hint), get_args(hint)
    if hint is Any:
        return st.none() | st.integers() | st.text(max_size=3)
    if isinstance(hint, UnionType):
        return st.one_of(*(values(one) for one in inner))
    if origin is Literal:
        return st.sampled_from(inner)
    if origin is tuple and inner[1:] == (...,):
        return st.lists(values(inner[0]), max_size=1).map(tuple)
    if origin is tuple:
        return st.tuples(*map(values, inner))
    if origin is not None:
        return st.dictionaries(st.text("ab*.", max_size=3), values(inner[1]), max_size=2)
    if issubclass(hint, Record):
        return records(hint)
    return {
        NoneType: st.none(),
        bool: st.booleans(),
        int: st.integers(1, 999),
        float: st.floats(0, 1),
        str: st.text(max_size=3),
    }[hint]


def records(kind: Any) -> st.SearchStrategy[Any]:
    if kind in WHOLE:
        return WHOLE[kind]
    hints = get_type_hints(kind)
    names = [one.name for one in fields(kind)]
    own = {(kind, name): values(hints[name]) for name in names if (kind, name) not in FORMS}
    return st.builds(kind, **{name: {**own, **FORMS}[kind, name] for name in names})


PARTS = st.fixed_dictionaries({name: records(Part) for name in CONTRIBUTIONS})
FORMS[LayerError, "parts"] = PARTS
FORMS[Comparison, "steps"] = st.lists(st.integers(1, 999), min_size=1, max_size=2).map(tuple)
FORMS[Diagnosis, "layers"] = st.lists(records(LayerError), min_size=1, max_size=2).map(tuple)


def copied(found: Any) -> Any:
    return json.loads(json.dumps(found))


def paths(kind: Any) -> dict[str, str]:
    """The paths of a record's fields in its JSON."""
    names = [one.name for one in fields(kind)]
    named = dict(kind.layout)
    rest = {name: name for name in names if ("*" in named and name not in named.values())}
    return rest | {path: name for path, name in named.items() if name in names}


def holder(content: Any, path: str) -> tuple[dict[str, Any], str]:
    """The dictionary that a path ends in, and the last name."""
    *way, last = path.split(".")
    for name in way:
        content = content[name]
    return content, last


def test_there_are_records():
    assert {Curve, Point, Tally, Comparison, Entry, Trial, Diagnosis} <= set(KINDS)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@settings(deadline=None, max_examples=3, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_record_is_read_as_it_was_written_and_nothing_else_is(kind, data):
    record = data.draw(records(kind))
    written = record.to_json()
    found = copied(written)
    again = kind.from_json(found)
    assert again == record
    assert json.dumps(again.to_json()) == json.dumps(written)
    assert found == copied(written)  # reading leaves it as it is
    hints = get_type_hints(kind)
    for path, name in paths(kind).items():
        if hints[name] is not Any:
            wrong = copied(found)
            inside, last = holder(wrong, path)
            inside[last] = [[[[]]]]  # fits no field
            with pytest.raises(RecordError, match=rf"^rows\[2\]\.{re.escape(path)}\b"):
                kind.from_json(wrong, "rows[2]")
        wrong = copied(found)
        inside, last = holder(wrong, path)
        del inside[last]
        if name not in kind.later and kind.later != ANY:
            with pytest.raises(RecordError, match=rf"^{re.escape(path)} is missing$"):
                kind.from_json(wrong)
        else:
            kind.from_json(wrong)
    for path in {path.rpartition(".")[0] for path in paths(kind)}:
        wrong = copied(found)
        holder(wrong, f"{path}.else" if path else "else")[0]["else"] = 1
        with pytest.raises(RecordError, match=r"^(\w+\.)?else is unknown$"):
            kind.from_json(wrong)
    for wrong in (None, [], "text", 5):
        with pytest.raises(RecordError, match=r"^it is .*, not a dictionary"):
            kind.from_json(wrong)


@dataclass(frozen=True)
class Inner(Record):
    share: float
    kind: Literal["a", "b"] = "a"


@dataclass(frozen=True)
class Outer(Record):
    """A record of everything that fields may be."""

    rows: tuple[Inner, ...]
    pair: tuple[int, str] | None
    by: Mapping[str, tuple[float, ...]]
    inner: Inner
    truth: bool
    mixed: float | str
    power: Fraction = field(metadata=form(str, Fraction))
    notes: Mapping[str, Any] = field(default_factory=dict)

    layout = (
        *same("doubled"),
        *FIELDS,
        ("in.by", "by"),
        ("in.count", "count"),
        ("rows.*.place", "places"),
    )
    later = ("notes",)

    @property
    def doubled(self) -> float:
        return 2 * self.inner.share

    @property
    def count(self) -> int:
        return len(self.rows)

    @property
    def places(self) -> tuple[int, ...]:
        return tuple(range(len(self.rows)))


OUTER = Outer(
    (Inner(0.5), Inner(1, "b")), (1, "x"), {"a.b": (0.5,)}, Inner(2.0), True, "m", Fraction(1, 3)
)
TOLD = {
    "doubled": 4.0,
    "rows": [{"share": 0.5, "kind": "a", "place": 0}, {"share": 1, "kind": "b", "place": 1}],
    "pair": [1, "x"],
    "inner": {"share": 2.0, "kind": "a"},
    "truth": True,
    "mixed": "m",
    "power": "1/3",
    "notes": {},
    "in": {"by": {"a.b": [0.5]}, "count": 2},
}


def test_a_layout_renames_nests_and_adds():
    assert json.dumps(OUTER.to_json()) == json.dumps(TOLD)
    assert Outer.from_json(TOLD) == OUTER
    few = copied(TOLD)
    del few["doubled"], few["in"]["count"], few["notes"], few["rows"][1]["place"]
    assert Outer.from_json(few) == OUTER  # what is derived need not be there


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda told: told["rows"][1].update(share="x"), r"^rows\[1\].share is 'x', not a number$"),
        (lambda told: told["rows"][1].update(share=True), r"^rows\[1\].share is True, not a num"),
        (lambda told: told["rows"][0].update(kind="c"), r"^rows\[0\].kind is 'c', not one of 'a'"),
        (lambda told: told["rows"].append(5), r"^rows\[2\] is 5, not a dictionary$"),
        (lambda told: told["rows"][0].update(more=1), r"^rows\[0\].more is unknown$"),
        (lambda told: told.update({"": 1, "more": 1}), r"^'' is unknown$"),
        (lambda told: told.update(pair=[1]), r"^pair is \[1\], not a list of 2$"),
        (lambda told: told.update(pair=[1.0, "x"]), r"^pair\[0\] is 1.0, not a whole number$"),
        (lambda told: told.update(truth=1), r"^truth is 1, not true or false$"),
        (lambda told: told.update(power="x"), r"^power is 'x': "),
        (lambda told: told.update(inner=3), r"^inner is 3, not a dictionary$"),
        (lambda told: told.update({"in": 3}), r"^in is 3, not a dictionary$"),
        (lambda told: told["in"].update(by={"a": [None]}), r"^in.by.a\[0\] is None, not a number"),
        (lambda told: told["in"].update(by={"a": 0.5}), r"^in.by.a is 0.5, not a list$"),
    ],
)
def test_a_refusal_names_the_place(change, message):
    told = copied(TOLD)
    change(told)
    with pytest.raises(RecordError, match=message):
        Outer.from_json(told)


POINT = {
    "steps": 8, "accuracy": 0.5, "interval": [0.4, 0.6], "agreement": 0.75,
    "spikes_per_image": 12.0, "firing_rate": 0.1, "layers": {"a.b": 0.1}, "top5": None, "lost": 1,
    "gained": 0, "error": None, "distance": None, "standard_error": 0.25,
    "top5_standard_error": None,
}  # fmt: skip
CURVE = {
    "images": 4, "engine": "cpu", "seconds": 1.5, "hardware": "one", "exact": True, "remark": "",
    "metric": "accuracy",
    "ann": {
        "accuracy": 0.75, "interval": [0.3, 0.95], "top5": None, "error": None,
        "standard_error": 0.21650635094610965, "top5_standard_error": None,
    },
    "snn": [POINT], "stopped": [], "per_class": None, "decisions": None,
    "notes": {"method": "hu2021"},
}  # fmt: skip
FACTS = {
    "levels": 1, "signed": False, "waits": False, "pre_steps": 0, "calibration_images": 40,
    "trained": False, "values": 1,
}  # fmt: skip
READING = {
    "steps": 4, "accuracy": 0.5, "interval": [0.4, 0.6], "standard_error": 0.1, "loss": 2.5,
    "loss_error": 1.0, "agreement": 0.9, "lost": 2, "gained": 1, "operations": 12.0,
    "spikes_per_image": 3.0, "firing_rate": 0.1, "engine": "cpu", "exact": True,
    "top5": None, "seconds": 0.5, "latency": 4,
}  # fmt: skip
METHOD = copied(methods.hu2021().describe())
ENTRY = {
    "method": METHOD, "facts": FACTS, "seconds": 0.5, "image_macs": 9, "readings": [READING]
}  # fmt: skip
TRIAL = {
    "recipe": "hu2021", "steps": 4, "verdict": "meets", "meets": True, "bounds": [0.0, 1.5],
    "method": METHOD, "facts": FACTS, "reading": READING,
}  # fmt: skip
FILES = {
    Curve: CURVE,
    Tally: {
        "steps": [4, 16], "metric": "accuracy", "images": 60, "correct": [58, 60], "top5": [60, 60],
        "agreed": None, "lost": None, "ann_correct": None, "ann_top5": None, "squared": [],
        "apart": None, "ann_squared": None, "spikes": {"relu": [30111, 123579]}, "seconds": 0.25,
        "engine": "cpu", "remark": "", "remark_at": 0, "spans": [], "stops": [],
        "decided": None,
    },
    Comparison: {
        "images": 4, "steps": [2, 4],
        "ann": {
            "accuracy": 0.75, "interval": [0.3, 0.95], "standard_error": 0.21650635094610965,
            "multiply_accumulates": 1000,
        },
        "rows": [
            {
                "recipe": "hu2021", "description": "d", "per_steps": False, "entries": [ENTRY],
                "problem": "",
            }
        ],
        "hardware": "one", "convert": "spiking-resnet convert digits_resnet8",
    },
    Tuning: {
        "target_loss": 3.0, "cost": "operations", "confidence": 0.95, "validation_images": 40,
        "ann_accuracy": 0.975, "trials": [TRIAL], "left_out": {"burst": "its spikes have 5 levels"},
        "winner": TRIAL, "likely": TRIAL, "nearest": TRIAL,
    },
    Diagnosis: {
        "images": 20, "steps": 4, "agreement": 0.9, "accuracy": 0.9, "ann_accuracy": 1.0,
        "layers": [
            {
                "name": "relu", "neurons": 8, "activation": 0.5, "mean": 0.0, "rms": 0.1,
                "agreement": 0.9,
                "parts": {
                    name: {"mean": 0.0, "rms": rms, "share": 0.2, "lost": lost}
                    for name, rms, lost in zip(CONTRIBUTIONS, (0.5, 0.1, 0.4, 0.2, 0.3),
                                               (0.0, 0.1, 0.25, 0.0, -0.25), strict=True)
                },
                "alone": None,
            }
        ],
        "engine": "cpu", "exact": True, "notes": {"percentile": 99.9},
        "arrival": "evenly over time", "remade": False,
        "lost": {"weights": 0.1, "clipping": 0.25, "quantisation": 0.0, "unevenness": -0.25},
        "costliest": ["relu", "clipping"], "largest": ["relu", "clipping"],
    },
}  # fmt: skip


@pytest.mark.parametrize("kind", FILES, ids=lambda kind: kind.__name__)
def test_what_files_hold_today_is_read_and_written_alike(kind):
    assert json.dumps(kind.from_json(FILES[kind]).to_json()) == json.dumps(FILES[kind])


def test_a_curve_of_before_metrics_is_one_of_accuracy():
    told = copied(CURVE)
    for name in ("metric", "stopped", "per_class", "decisions"):
        del told[name]
    for name in ("top5", "error", "standard_error", "top5_standard_error"):
        del told["ann"][name]
    for name in list(told["snn"][0]):
        if name in (*Point.later, "standard_error", "top5_standard_error"):
            del told["snn"][0][name]
    found = Curve.from_json(told)
    assert found.metric == "accuracy"
    assert found.points[0].lost is None


def test_older_counts_and_readings_lack_what_came_later():
    tally, comparison = copied(FILES[Tally]), copied(FILES[Comparison])
    tally = {**tally, "squared": [0.5], "correct": []}  # sums were floats
    for name in Tally.later:
        del tally[name]
    assert Tally.from_json(tally).squared == (Fraction(1, 2),)
    assert Tally.from_json(tally).counted == ((0, 60),)
    (reading,) = comparison["rows"][0]["entries"][0]["readings"]
    del reading["top5"], reading["seconds"], reading["latency"], comparison["convert"]
    found = Comparison.from_json(comparison).rows[0].readings[4]
    assert (found.top5, found.seconds, found.latency) == (None, None, None)
    assert Comparison.from_json(comparison).command == ""


def test_numbers_that_are_not_finite_stay_so():
    told = json.loads(json.dumps({**copied(FILES[Tally]), "seconds": math.inf}))
    assert Tally.from_json(told).seconds == math.inf
