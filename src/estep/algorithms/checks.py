"""What rows refuse of an environment."""

from __future__ import annotations

import math
from typing import Any

from estep.core.types import Spec
from estep.errors import UsageError
from estep.families.categorical import MOST_COMBINATIONS


def continuous(name: str, spec: Spec) -> Spec:
    """The environment, where its actions are continuous.

    Raises:
        UsageError: they are discrete, which the row has no form for.
    """
    if spec.factors:
        raise UsageError(f"{name} is for continuous actions; these are {describe(spec)}.", "Use vmpo or mpo.")
    return spec


def check_combinations(name: str, spec: Spec, fix: str = "Use vmpo, mpo or soft-pg, which sample them.") -> None:
    """Check that a sum over all combinations of choices is feasible. One choice is summed over, however many there are.

    Raises:
        UsageError: there are too many.
    """
    count = math.prod(spec.factors)
    if len(spec.factors) > 1 and count > MOST_COMBINATIONS:
        raise UsageError(
            f"{name} sums over all combinations of choices, at most {MOST_COMBINATIONS}; these are {describe(spec)}, "
            f"with {count:,} combinations.",
            fix,
        )


def describe(spec: Spec) -> str:
    """The choices of a discrete action, in words."""
    if len(spec.factors) == 1:
        return f"{spec.action_dim} choices"
    return f"{len(spec.factors)} independent choices"


def check_choices(row: Any, spec: Spec) -> None:
    """What RERPI cannot do over discrete actions.

    Raises:
        UsageError: weights by rank over the choices of one action, or a full covariance.
    """
    if spec.discrete and row.weights == "rank":
        raise UsageError(
            "Weights by rank need samples that are equally likely. Over discrete actions there are no samples: every "
            "action is weighted by its own probability.",
            "Give --weights exponential.",
        )
    if spec.factors and row.covariance == "full":
        raise UsageError("Discrete actions have no covariance.", "Give --covariance diagonal, which is not used there.")
