"""A prior that sees a part of the state."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import equinox as eqx

from estep.core.slots import Distribution, Prior
from estep.core.types import Obs, Spec
from estep.errors import UsageError
from estep.nets import part_of

ALL, STATE, NOTHING = "all", "state", "nothing"
RANGE = re.compile(r"([0-9]{1,9})(?::([0-9]{1,9}))?")


class Restricted(Prior):
    """p(a|x), where x is some numbers of the state: what it learns holds wherever the others are different.

    Source:
        Galashov et al. 2019, arXiv:1905.01240.
    """

    inner: Prior
    seen: tuple[int, ...] = eqx.field(static=True)
    """The places of these numbers in the observation. Where there are none, x is the number 1."""

    def __call__(self, obs: Obs) -> Distribution:
        return self.inner(part_of(obs, self.seen))


def restricted(spec: Spec, sees: tuple[str, ...], make: Callable[[Spec], Prior]) -> Prior:
    """A prior that sees some numbers of the state, or the prior itself where it sees all of them.

    Args:
        spec: the environment.
        sees: the setting `prior_sees`.
        make: from an environment, which may have fewer observations, to a prior.

    Raises:
        UsageError: the observation has no such numbers.

    Example:
        >>> import jax.numpy as jnp
        >>> from estep import Spec, make_key
        >>> from estep.priors.network import gaussian_network
        >>> from estep.priors.restricted import restricted
        >>> make = lambda spec: gaussian_network(spec, (8,), 0.5, key=make_key(0))
        >>> p = restricted(Spec(obs_dim=3, action_dim=2), ("2",), make)
        >>> bool((p(jnp.asarray([0.0, 0.0, 1.0])).mu == p(jnp.asarray([9.0, 9.0, 1.0])).mu).all())
        True
    """
    seen = places(spec, sees)
    if len(seen) == spec.obs_dim:
        return make(spec)
    return Restricted(make(spec._replace(obs_dim=max(len(seen), 1), tasks=0, names=())), seen)


def places(spec: Spec, sees: tuple[str, ...]) -> tuple[int, ...]:
    """The places of the numbers of an observation that a prior sees, in order.

    Args:
        spec: the environment.
        sees: places from 0, such as "3"; ranges, such as "0:4" for the places 0 to 3; names of parts of an observation
            that is a dict, with the outer keys first where it is nested ("arm.angle", or "arm" for all of it); or one
            of "all", "state" for all but the one-hot vector of the task, and "nothing".

    Raises:
        UsageError: none of these, beyond the observation, the same place twice, or no text at all.

    Example:
        >>> from estep import Spec
        >>> from estep.priors.restricted import places
        >>> places(Spec(obs_dim=6, action_dim=1, tasks=2), ("state",)), places(Spec(6, 1), ("5", "0:2"))
        ((0, 1, 2, 3), (0, 1, 5))
    """
    words = {ALL: spec.obs_dim, STATE: spec.obs_dim - spec.tasks, NOTHING: 0}
    if len(sees) == 1 and sees[0] in words:
        return tuple(range(words[sees[0]]))
    if not sees:
        raise UsageError("--prior-sees is empty.", "Give state, all, nothing, or places of the observation.")
    named = _named(spec)
    found = [place for text in sees for place in named.get(text) or _range(text, spec)]
    if len(set(found)) < len(found):
        raise UsageError(f"--prior-sees {' '.join(sees)} has a place twice.", "Give each place once.")
    return tuple(sorted(found))


def _named(spec: Spec) -> dict[str, list[int]]:
    """The places of the parts of an observation that is a dict, by name, and of the dicts that it holds."""
    found: dict[str, list[int]] = {}
    first = 0
    for name, size in spec.names:
        keys = name.split(".")
        for depth in range(1, len(keys) + 1):
            found.setdefault(".".join(keys[:depth]), []).extend(range(first, first + size))
        first += size
    return found


def _range(text: str, spec: Spec) -> Sequence[int]:
    """The places of one word that is no name. Raises UsageError."""
    match = RANGE.fullmatch(text)
    if match is None:
        listed = f", names ({', '.join(name for name, _ in spec.names)})" if spec.names else ""
        what = f"--prior-sees has {text!r}, which is no place, range or name of the observation."
        raise UsageError(
            what, f"Give places such as 3, ranges such as 0:4{listed}, or one of state, all and nothing alone."
        )
    first = int(match[1])
    end = first + 1 if match[2] is None else int(match[2])
    if first >= end:
        raise UsageError(f"--prior-sees has the range {text}, which is empty.", "Give a range such as 0:4.")
    if end > spec.obs_dim:
        what = f"--prior-sees has the place {end - 1}, and an observation has the places 0 to {spec.obs_dim - 1}."
        raise UsageError(what, "Give places of the observation.")
    return range(first, end)
