"""Whom a NIR file is written for: what each reader does that NIR does not say."""

from collections.abc import Mapping
from dataclasses import dataclass

from spiking_resnet.neurons import Reset
from spiking_resnet.records import InputError


@dataclass(frozen=True, kw_only=True)
class Profile:
    """A reader of NIR files, by what it does.

    reset: the reset of its neurons, whatever the file says; None where it reads our metadata.
    strict: whether its neurons fire above their threshold only, not at it.
    depth_first: whether it computes nodes in the order of a depth-first walk along the edges, so
    that a shortcut with a node of its own comes too late. resets_stored: whether it knows the field
    `v_reset` (NIR files since 1.0.5 have it). note: what a user has to do.
    """

    name: str
    reset: Reset | None = None
    strict: bool = False
    depth_first: bool = False
    old_schema: bool = False
    note: str = ""

    @property
    def is_client(self) -> bool:
        """Whether the file must hold in the graph itself what our metadata would say."""
        return self.reset is not None


PROFILES: Mapping[str, Profile] = {
    each.name: each
    for each in (
        Profile(name="plain", note="sr.from_nir, or whatever heeds its metadata"),
        Profile(
            name="norse",
            reset="zero",
            strict=True,
            depth_first=True,
            note="norse.torch.from_nir(nir.read(FILE)), called once a step with the last state",
        ),
        Profile(
            name="spikingjelly",
            reset="zero",
            note="nir_exchange.import_from_nir(FILE, dt=1.0), called once a step with the last "
            "state: without it every step begins anew",
        ),
        Profile(
            name="sinabs",
            reset="subtract",
            depth_first=True,
            old_schema=True,
            note="sinabs.from_nir, then spike_fn = SingleSpike and min_v_mem = None in every "
            "IAFSqueeze: otherwise neurons fire several spikes a step and are clamped",
        ),
    )
}


def profile_named(name: str) -> Profile:
    """Return the profile of this name; InputError for others."""
    if name not in PROFILES:
        raise InputError(f"there is no NIR profile {name!r}: use one of {', '.join(PROFILES)}")
    return PROFILES[name]
