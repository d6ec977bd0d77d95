"""What rows refuse of an environment."""

from __future__ import annotations

import math
from typing import Any

from estep.core.types import Spec
from estep.errors import UsageError
from estep.families.categorical import MOST_COMBINATIONS
from estep.settings import groups
from estep.settings.kinds import refused


def continuous(name: str, spec: Spec) -> Spec:
    """The environment, where its actions are continuous.

    Raises:
        UsageError: they are discrete, which the row has no form for.
    """
    if spec.factors:
        raise UsageError(f"{name} is for continuous actions; these are {describe(spec)}.", "Use sac or mpo.")
    return spec


def check_tasks(name: str, spec: Spec) -> None:
    """Check that a row that is about several tasks has them.

    Raises:
        UsageError: there is one environment.

    Example:
        >>> check_tasks("sac", Spec(obs_dim=5, action_dim=1, tasks=2))
    """
    if not spec.tasks:
        what = f"{name} shares what several tasks have in common, and there is one environment."
        raise UsageError(what, "Give several environments (--env A B), or use sac.")


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


INFERRING_TO_ACT: dict[str, Any] = {"act_iterations": 0, "act_average": 1, "act_beta": None}
"""Settings of inference to act alone, with the values that ask for nothing."""


def check_acting(row: Any) -> None:
    """Check every setting of an algorithm that infers by iterations, in its plain form, and how it acts.

    Raises:
        UsageError: a value is out of bounds; more iterates are averaged than there are; the start is to act and is no
            network; or a setting is about inference to act, which there is not.
    """
    groups.validate_with_inference(row)
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


def check_start(name: str, row: Any, spec: Spec) -> None:
    """Check that iterations can start in an environment.

    Raises:
        UsageError: there are too many combinations of choices; or inference over choices starts at equal
            probabilities, and is to be pessimistic about differences to an action that the start prefers.
    """
    check_combinations(name, spec)
    if spec.factors and row.pessimism == "difference" and not row.direct_start:
        raise UsageError(
            "Over discrete actions inference starts at equal probabilities, so no action is the one that "
            "--pessimism difference compares with.",
            "Give --direct-start, or --pessimism value.",
        )


def check_plans(row: Any) -> None:
    """Check every setting of an algorithm that learns from its plans, in its plain form.

    Raises:
        UsageError: a value is out of bounds; or the critic's target needs the density of the actions taken.
    """
    groups.validate_with_inference(row)
    if row.inference_fraction != 1:
        what = "Plans are searched for in --search-fraction of each batch, and --inference-fraction does nothing."
        raise UsageError(what, "Leave out --inference-fraction, and give --search-fraction.")
    if row.target == "retrace":
        raise UsageError(
            "Retrace needs the density of the actions taken, and plans are weighted samples, which have none.",
            "Give --target td0 or n-step.",
        )
    if not row.kl_in_value:
        return
    if row.target != "td0":
        raise UsageError(
            "With --kl-in-value the critic learns the value that a search found in the next state, which is a target "
            "of one step.",
            "Give --target td0, or leave out --kl-in-value.",
        )
    if row.horizon * (1 - row.gamma) > 1:
        raise UsageError(
            f"With --kl-in-value a search of {row.horizon} steps at --gamma {row.gamma:g} has h (1 - γ) = "
            f"{row.horizon * (1 - row.gamma):.3g}. Above 1 its values overshoot, and above 2 they diverge.",
            "Give a smaller --horizon or a larger --gamma, or leave out --kl-in-value.",
        )


def check_one_choice(name: str, spec: Spec) -> None:
    """Check that an action is a vector of numbers or one choice. Raises UsageError where it is several choices."""
    if len(spec.factors) > 1:
        what = f"{name} mixes lower levels, and these are {describe(spec)}, whose mixture has no simple form."
        raise UsageError(what, "Use distral or default-policy.")


def check_levels(row: Any) -> None:
    """Check what the settings of a policy of two levels must agree on.

    Raises:
        UsageError: z is to stay near the z before, which a target of one step does not know; or a lower level that is
            taken from another run is not to be shared.
    """
    if row.rho and (row.target != "retrace" or row.unroll < 2):
        raise UsageError(
            f"--rho {row.rho:g} needs the z of the step before, which is there in sequences and with --target retrace.",
            "Give --target retrace and --unroll 2 or more, or --rho 0.",
        )
    if row.freeze_low and row.low_level == "own":
        raise UsageError(
            "--freeze-low takes a lower level that does not see the task, and with --low-level own it does.",
            "Give --low-level shared, or leave out --freeze-low.",
        )
