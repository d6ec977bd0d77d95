"""What rows refuse of an environment."""

from __future__ import annotations

from typing import Any

from estep.core.types import Spec
from estep.errors import UsageError


def continuous(name: str, spec: Spec) -> Spec:
    """The environment, where its actions are continuous.

    Raises:
        UsageError: they are discrete, which the row has no form for.
    """
    if spec.discrete:
        raise UsageError(f"{name} is for continuous actions; these are {spec.action_dim} choices.", "Use sac or mpo.")
    return spec


def check_choices(row: Any, spec: Spec) -> None:
    """What RERPI cannot do over discrete actions.

    Raises:
        UsageError: weights by rank, or a full covariance, there.
    """
    if spec.discrete and row.weights == "rank":
        raise UsageError(
            "Weights by rank need samples that are equally likely. Over discrete actions there are no samples: every "
            "action is weighted by its own probability.",
            "Give --weights exponential.",
        )
    if spec.discrete and row.covariance == "full":
        raise UsageError("Discrete actions have no covariance.", "Give --covariance diagonal, which is not used there.")
