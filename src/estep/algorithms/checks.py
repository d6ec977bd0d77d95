"""What rows refuse of an environment."""

from __future__ import annotations

from typing import Any

from estep.core.types import Spec
from estep.errors import UsageError
from estep.settings.kinds import refused


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


INFERRING_TO_ACT: dict[str, Any] = {"act_iterations": 0, "act_average": 1, "act_beta": None}
"""Settings of inference to act alone, with the values that ask for nothing."""


def check_acting(row: Any) -> None:
    """Check how iterations act.

    Raises:
        UsageError: more iterates are averaged than there are; the start is to act and is no network; or a setting is
            about inference to act, which there is not.
    """
    iterations = row.act_iterations or row.iterations
    if row.act_average > iterations:
        raise refused("act_average", row.act_average, f"between 1 and {iterations}, the iterations")
    if row.act_by == "inference":
        return
    if not row.direct_start:
        raise UsageError(
            "Inference starts at a fixed place, which is no policy to act by.",
            "Give --direct-start, or --act-by inference.",
        )
    unused = [name for name, default in INFERRING_TO_ACT.items() if getattr(row, name) != default]
    if unused:
        flag = "--" + unused[0].replace("_", "-")
        raise UsageError(
            f"{flag} is about inference to act, and --act-by start acts without it.",
            f"Leave out {flag}, or give --act-by inference.",
        )


def check_start(row: Any, spec: Spec) -> None:
    """Refuse pessimism about differences to a start that prefers no action.

    Raises:
        UsageError: inference over discrete actions starts at equal probabilities.
    """
    if spec.discrete and row.pessimism == "difference" and not row.direct_start:
        raise UsageError(
            "Over discrete actions inference starts at equal probabilities, so no action is the one that "
            "--pessimism difference compares with.",
            "Give --direct-start, or --pessimism value.",
        )
