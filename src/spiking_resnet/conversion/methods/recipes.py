"""The names of conversion methods: one table for `convert`, `compare`, `tune` and the rest."""

from collections.abc import Mapping, Set
from dataclasses import dataclass, replace
from typing import Any

from spiking_resnet import arguments
from spiking_resnet.conversion.methods.calibrated import PLAIN, calibrated
from spiking_resnet.conversion.methods.differential import dcgs, differential
from spiking_resnet.conversion.methods.method import Method
from spiking_resnet.conversion.methods.option import options_of
from spiking_resnet.conversion.methods.rate_coded import hu2021, qcfs
from spiking_resnet.records import InputError
from spiking_resnet.shown import Short

BINARY, GRADED, TRAINED = "0/1 spikes", "signed or graded spikes", "trained for conversion"
CLASSES = (BINARY, GRADED, TRAINED)  # what is compared with its like


@dataclass(frozen=True)
class Recipe(Short):
    """A conversion method with its options, by a name.

    description: one line. method: with the options that it has unless others are asked for.
    """

    name: str
    description: str
    method: Method

    def __post_init__(self) -> None:
        if isinstance(self.method, type) or not hasattr(self.method, "apply"):
            remedy = "give an object such as methods.hu2021()"
            raise arguments.expected("method of a recipe", self.method, remedy)

    @property
    def per_steps(self) -> bool:
        """Whether it is made for one number of time steps, and so made again for each.

        Others are converted once, for the most steps, and read out at every T.
        """
        return self.method.per_steps

    @property
    def group(self) -> str:
        """Which of CLASSES its networks are of."""
        if self.method.trained:
            return TRAINED
        return GRADED if self.method.graded else BINARY

    def make(self, steps: int) -> Method:
        """Return the method for so many time steps: for at least so many where it serves any."""
        if "steps" not in _options(self.method):
            return self.method
        own: int = getattr(self.method, "steps")  # noqa: B009 - an option that not all have
        changed: dict[str, Any] = {"steps": steps if self.per_steps else max(steps, own)}
        return replace(self.method, **changed)

    def having(self, **options: Any) -> "Recipe":
        """Return the recipe with other options; InputError for such as its method has not.

        With the options of another recipe of ours it is that one.
        """
        known = _options(self.method)
        for name in options:
            if name not in known:
                raise arguments.unknown(f"option of {self.name}", name, known)
        if not options:
            return self
        method = replace(self.method, **options)
        near = recipe_of(method)
        other = self.name in RECIPES and not _apart_from_steps(near, method)
        named = near if other and _apart_from_steps(self, method) else self
        return replace(named, method=method)

    def differing(self, method: Method) -> dict[str, Any]:
        """Return the options by which a method of the same class differs from the recipe's."""
        own = {name: getattr(self.method, name) for name in options_of(type(self.method))}
        found = {name: getattr(method, name) for name in own}
        return {name: value for name, value in found.items() if value != own[name]}


def _apart_from_steps(recipe: Recipe, method: Method) -> Set[str]:
    """Return the options, but for the steps, by which a method differs from a recipe."""
    return recipe.differing(method).keys() - {"steps"}


def _options(method: Method) -> Mapping[str, Any]:
    """Return a method's options by name; none of one that is not this package's."""
    return options_of(type(method)) if isinstance(method, Method) else {}


def _any_time(**options: Any) -> calibrated:
    """Return percentile thresholds without a correction, which serve every T.

    `images` are for corrections, so one is enough.
    """
    fixed: dict[str, Any] = {**PLAIN, "thresholds": "percentile", "images": 1, "steps": 350}
    return calibrated(**{**fixed, **options})


def _plain(**options: Any) -> calibrated:
    """Return thresholds made for T, and of the corrections only those asked for."""
    return calibrated(**{**PLAIN, **options})


_ALL = (
    Recipe("hu2021", "the paper: 0/1 spikes, one threshold a layer", hu2021()),
    Recipe("hu2021-channel", "the paper with thresholds per channel", hu2021(per_channel=True)),
    Recipe(
        "optimal-potential",
        "thresholds per channel, v0 = θ/2 (Bu et al., AAAI 2022)",
        _any_time(),
    ),
    Recipe(
        "bias-shift",
        "v0 = 0, and θ/(2T) more current at every step (Deng and Gu, ICLR 2021)",
        _plain(thresholds="percentile", bias_shift=True),
    ),
    Recipe("mmse", "MMSE thresholds alone (a part of SNN Calibration)", _plain(thresholds="mmse")),
    Recipe(
        "threshold-iteration",
        "thresholds iterated on activations (a part of DCGS, ICML 2025)",
        _plain(thresholds="iterated"),
    ),
    Recipe(
        "threshold-balancing",
        "balanced thresholds, delayed read-out (Bu et al., CVPR 2025)",
        _plain(thresholds="balanced", delay="auto"),
    ),
    Recipe(
        "snn-calibration-light",
        "MMSE thresholds, bias corrected once (Li et al., ICML 2021)",
        _plain(compensation="bias", rounds=1),
    ),
    Recipe(
        "snn-calibration-advanced",
        "potential corrected once, weights refitted by ridge (Li et al., ICML 2021)",
        _plain(compensation="potential", rounds=1, weights=True, fit_to="layer", ridge=1e-3),
    ),
    Recipe("calibrated", "weights and potentials corrected layer by layer for T", calibrated()),
    Recipe(
        "layer-serial",
        "neurons fire after their whole input (after DA-QCFS, 2025), calibrated",
        calibrated(waits=True),
    ),
    Recipe(
        "da-qcfs",
        "layer-serial neurons with offsets, MMSE thresholds (Hao et al., ICML 2025)",
        _plain(thresholds="mmse", compensation="offsets", waits=True),
    ),
    Recipe(
        "burst",
        "up to 5 spikes a step, thresholds at the 95th percentile (Li and Zeng 2022)",
        hu2021(levels=5, per_channel=True, percentile=95, readout="membrane", pool_neurons=False),
    ),
    Recipe(
        "multi-threshold-4",
        "4 binary thresholds a neuron: 15 levels up to its channel's percentile (as H-MT, 2026)",
        _any_time(levels=15),
    ),
    Recipe("signed", "signed spikes (Wang et al. 2022)", _any_time(signed=True)),
    Recipe(
        "calibrated-signed",
        "calibrated with signed spikes, read out from the first step on",
        calibrated(signed=True, delay=0),
    ),
    Recipe(
        "differential-1",
        "one signed spike a step, its amplitude shrinks at each layer's own pace",
        differential(levels=1),
    ),
    Recipe("differential-4", "as differential-1, with 4 sizes of spikes", differential(levels=4)),
    Recipe(
        "dcgs-1",
        "differential coding of a mean, signed neurons (DCGS, Huang et al. 2025)",
        dcgs(levels=1),
    ),
    Recipe("dcgs-4", "as dcgs-1, with 4 thresholds, θ to θ/8", dcgs(levels=4)),
    Recipe("qcfs", "quantised activations in training (Bu et al. 2022)", qcfs()),
    Recipe(
        "qcfs-srp",
        "as qcfs; 16 pre-steps find neurons that stay silent (Hao et al., AAAI 2023)",
        qcfs(gate="srp", pre_steps=16),
    ),
    Recipe(
        "qcfs-cos",
        "as qcfs; 16 pre-steps shift where neurons start (after Hao et al., ICLR 2023)",
        qcfs(gate="cos", pre_steps=16),
    ),
)
RECIPES: dict[str, Recipe] = {recipe.name: recipe for recipe in _ALL}
ALSO = {"differential": "differential-1", "dcgs": "dcgs-1"}  # other names of the same


def recipe_named(name: str) -> Recipe:
    """Return the recipe of this name; InputError, with the names that are near, for any other."""
    found = RECIPES.get(ALSO.get(name, name))
    if found is None:
        raise arguments.unknown("method", name, RECIPES)
    return found


def named(name: str, **options: Any) -> Method:
    """Return the method of this name; `options` override its own.

    Raises InputError for names there are not, and for options that it does not have.
    """
    return recipe_named(name).having(**options).method


def recipe_of(method: Method, name: str = "") -> Recipe:
    """Return the recipe that a method differs from the least, its steps left aside.

    name: the recipe that it was made by, if it is known and of the same class.
    """
    own = RECIPES.get(name)
    if own is not None and type(own.method) is type(method):
        return own
    like = [each for each in _ALL if type(each.method) is type(method)]
    if not like:
        return Recipe(method.name, "", type(method)())
    return min(like, key=lambda each: len(each.differing(method).keys() - {"steps"}))


def entitled(entry: "str | Method | Recipe", **options: Any) -> Recipe:
    """Return the recipe that an argument stands for, with these options.

    A method is called by the recipe whose options it has, and else by its own name.
    """
    if isinstance(entry, str):
        return recipe_named(entry).having(**options)
    if isinstance(entry, Recipe):
        return entry.having(**options)
    if isinstance(entry, type) and hasattr(entry, "apply"):
        raise InputError(f"method is the class {entry.__name__}: give {entry.__name__}()")
    if not hasattr(entry, "apply"):
        remedy = "give a name such as 'hu2021', or an object such as methods.hu2021()"
        raise arguments.expected("method", entry, remedy)
    if not isinstance(entry, Method):  # one's own, of `apply` alone
        return Recipe(type(entry).__name__, "a method of one's own", entry).having(**options)
    near = recipe_of(entry)
    same = not _apart_from_steps(near, entry)
    name, text = (near.name, near.description) if same else (entry.name, told(near, entry))
    return Recipe(name, text, entry).having(**options)


def told(recipe: Recipe, method: Method) -> str:
    """Return what a method is, as a recipe and the options that differ from it."""
    options: Mapping[str, Any] = recipe.differing(method)
    return ", ".join([recipe.name, *(f"{name} = {value}" for name, value in options.items())])
