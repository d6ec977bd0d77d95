"""What several rows are built from."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

import jax.numpy as jnp

from estep.core.slots import Likelihood, Prior, Projection
from estep.core.types import Clip, Key, Spec
from estep.likelihoods.q_function import q_of
from estep.likelihoods.targets import TARGETS
from estep.m_steps import trust_region
from estep.m_steps.multipliers import inside_box

R = TypeVar("R")
TRUST_REGIONS: Mapping[str, tuple[trust_region.Split, trust_region.Measure]] = {
    "per-dimension": (trust_region.decoupled, trust_region.per_dimension),
    "joint": (trust_region.decoupled, trust_region.joint),
    "coupled": (trust_region.coupled, trust_region.joint),
}
"""What is bounded, by the name that the setting `trust_region` has for it."""


def like(kind: type[R], row: Any) -> R:
    """Another row with the settings of this one, as far as it has them.

    Args:
        kind: the other row.
        row: the settings.

    Example:
        >>> from estep import SAC
        >>> from estep.algorithms.shared import like
        >>> from estep.algorithms.model_based.mve import MVE
        >>> like(SAC, MVE(gamma=0.9)) == SAC(gamma=0.9)
        True
    """
    names = [field.name for field in dataclasses.fields(kind) if hasattr(row, field.name)]  # type: ignore[arg-type]
    return kind(**{name: getattr(row, name) for name in names})


def q_critic(row: Any, spec: Spec, key: Key, heads: int = 0) -> Likelihood:
    """Action values of a row that names what they are regressed on. `heads` are as in `q_of`."""
    return q_of(row, spec, TARGETS[row.target](row.unroll), heads=heads, key=key)


def weighted_region(
    row: Any, spec: Spec, prior: Prior, split: trust_region.Split, measure: trust_region.Measure
) -> Projection:
    """How a policy is fitted to weighted samples of its slow copy: near that copy, and inside the box to which actions
    are clipped."""
    example = prior(jnp.zeros(spec.obs_dim))
    box = inside_box(row.epsilon_box, 10.0) if row.epsilon_box and isinstance(spec.squash, Clip) else None
    bounds = (row.epsilon_mean, 10.0), (row.epsilon_scale, 1000.0)
    return trust_region.trust_region(example, bounds, box, *trust_region.form_for(example, split, measure))
