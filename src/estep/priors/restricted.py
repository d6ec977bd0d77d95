"""A prior that sees a part of the state."""

from __future__ import annotations

from collections.abc import Callable

import equinox as eqx
import jax.numpy as jnp

from estep.core.slots import Distribution, Prior
from estep.core.types import Obs, Spec
from estep.errors import UsageError


class Restricted(Prior):
    """p(a|x), where x is some numbers of the state: what it learns holds wherever the others are different.

    Source:
        Galashov et al. 2019, arXiv:1905.01240.
    """

    inner: Prior
    seen: tuple[int, ...] = eqx.field(static=True)
    """The places of these numbers in the observation."""

    def __call__(self, obs: Obs) -> Distribution:
        return self.inner(obs[jnp.asarray(self.seen)])


def restricted(spec: Spec, seen: tuple[int, ...], make: Callable[[Spec], Prior]) -> Prior:
    """A prior that sees some numbers of the state, or all of it where none are named.

    Args:
        spec: the environment.
        seen: the places of the numbers in the observation, from 0; none for all.
        make: from an environment, which may have fewer observations, to a prior.

    Raises:
        UsageError: there is no such place, or one is named twice.

    Example:
        >>> import jax.numpy as jnp
        >>> from estep import Spec, make_key
        >>> from estep.priors.network import gaussian_network
        >>> from estep.priors.restricted import restricted
        >>> make = lambda spec: gaussian_network(spec, (8,), 0.5, key=make_key(0))
        >>> p = restricted(Spec(obs_dim=3, action_dim=2), (2,), make)
        >>> bool((p(jnp.asarray([0.0, 0.0, 1.0])).mu == p(jnp.asarray([9.0, 9.0, 1.0])).mu).all())
        True
    """
    if not seen:
        return make(spec)
    wrong = [place for place in seen if place >= spec.obs_dim]
    if wrong or len(set(seen)) < len(seen):
        what = f"has the place {wrong[0]}" if wrong else "names a place twice"
        raise UsageError(
            f"--prior-inputs {what}, and an observation has the places 0 to {spec.obs_dim - 1}, each once.",
            "Give places of the observation, each once, or leave out --prior-inputs.",
        )
    return Restricted(make(spec._replace(obs_dim=len(seen))), seen)
