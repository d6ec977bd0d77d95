"""Bounds that the numbers of several rows share."""

from __future__ import annotations

from typing import Any

from estep.core.types import Spec
from estep.errors import UsageError, check
from estep.likelihoods.targets import TARGETS


def check_common(row: Any) -> None:
    """Refuse numbers with which no row can learn.

    Raises:
        UsageError: naming the flag, its value and what it must be.
    """
    check_learning(row)
    check("tau", 0 < row.tau <= 1, row.tau, "above 0 and at most 1")
    check("entropy", -100 < row.entropy < 100, row.entropy, "between -100 and 100")
    fraction = row.entropy_fraction
    check(
        "entropy_fraction", 0 <= fraction < 1, fraction, "at least 0 and below 1: only chance has an entropy of log n"
    )


def continuous(name: str, spec: Spec) -> Spec:
    """The environment, where its actions are continuous.

    Raises:
        UsageError: they are discrete, which the row has no form for.
    """
    if spec.discrete:
        raise UsageError(f"{name} is for continuous actions; these are {spec.action} choices.", "Use sac or mpo.")
    return spec


def check_ranks(row: Any) -> None:
    """What the rows have that may weigh by rank. Raises as `check_common`."""
    enough = f"above 1 - samples, {1 - row.samples}, and below 1e6"
    check("rank_shift", 1 - row.samples < row.rank_shift < 1e6, row.rank_shift, enough)


def check_choices(row: Any, spec: Spec) -> None:
    """What RERPI cannot do over discrete actions.

    Raises:
        UsageError: weights by rank, or a full covariance, there.
    """
    if spec.discrete and row.weights == "rank":
        raise UsageError(
            "Ranks weigh draws, each as likely as the others; discrete actions are not drawn: all of them are weighed, "
            "each by its own probability.",
            "Give --weights exponential.",
        )
    if spec.discrete and row.covariance == "full":
        raise UsageError("Discrete actions have no covariance.", "Give --covariance diagonal, which is not used there.")


def check_rollout(row: Any) -> None:
    """What the rows that learn from fresh data have. Raises as `check_common`."""
    check("hidden", len(row.hidden) > 0 and min(row.hidden) > 0, row.hidden, "one or more positive sizes")
    check("learning_rate", 0 < row.learning_rate < 1, row.learning_rate, "between 0 and 1")
    check("discount", 0 <= row.discount < 1, row.discount, "at least 0 and below 1")
    check("lam", 0 <= row.lam <= 1, row.lam, "between 0 and 1")
    check("unroll", row.unroll >= 1, row.unroll, "at least 1")
    check("rollout", row.rollout >= row.unroll, row.rollout, f"at least {row.unroll}, one unroll")
    check("sigma", 1e-4 < row.sigma < 7, row.sigma, "between 1e-4 and 7")


def check_learning(row: Any) -> None:
    """What every row with a critic has. Raises as `check_common`."""
    check("hidden", len(row.hidden) > 0 and min(row.hidden) > 0, row.hidden, "one or more positive sizes")
    check("learning_rate", 0 < row.learning_rate < 1, row.learning_rate, "between 0 and 1")
    check("discount", 0 <= row.discount < 1, row.discount, "at least 0 and below 1")
    check("critics", row.critics >= 1, row.critics, "at least 1")
    check("beta", 0 <= row.beta < 100, row.beta, "between 0 and 100")


def check_policy(row: Any) -> None:
    """What the rows of a policy that is its own prior have, with their bounds of KLs. Raises as `check_common`."""
    check_learning(row)
    check("dual_learning_rate", 0 < row.dual_learning_rate < 1, row.dual_learning_rate, "between 0 and 1")
    check("every", row.every >= 1, row.every, "at least 1")
    check("samples", row.samples >= 1, row.samples, "at least 1")
    check("sigma", 1e-4 < row.sigma < 7, row.sigma, "between 1e-4 and 7")
    for name in (name for name in vars(row) if name.startswith("epsilon") and name != "epsilon_box"):
        check(name, 0 < getattr(row, name) < 100, getattr(row, name), "between 0 and 100")


def check_compose(row: Any) -> None:
    """The numbers of `compose`. Raises as `check_common`."""
    check_learning(row)
    check_rollout(row)
    check("tau", 0 < row.tau <= 1, row.tau, "above 0 and at most 1")
    for name in ("every", "epochs", "iterations", "samples", "components"):
        check(name, getattr(row, name) >= 1, getattr(row, name), "at least 1")
    check("population", row.population >= 20, row.population, "at least 20")
    check("epsilon", 0 <= row.epsilon < 1e3, row.epsilon, "at least 0 and below 1000")
    check("target", row.target in TARGETS, row.target, f"one of {', '.join(TARGETS)}")


def check_target(row: Any) -> None:
    """What the rows have whose critic may learn from several steps in a row. Raises as `check_common`."""
    check("target", row.target in TARGETS, row.target, f"one of {', '.join(TARGETS)}")
    check("unroll", row.unroll >= 1, row.unroll, "at least 1")


def check_behaviour(row: Any) -> None:
    """What the rows have that may act with weighted particles. Raises as `check_common`."""
    if row.target == "retrace" and row.act_with == "posterior":
        raise UsageError(
            "Retrace needs the density of the actions taken, and weighted particles have none.",
            "Give --target n-step or td0, or --act-with prior.",
        )


def check_weights(row: Any) -> None:
    """What the rows that weigh draws have. Raises as `check_common`."""
    check_policy(row)
    check("tau", 0 < row.tau <= 1, row.tau, "above 0 and at most 1")
    check("samples", row.samples >= 2, row.samples, "at least 2: one draw has no weight to be found")
    check("epsilon_box", 0 <= row.epsilon_box < 100, row.epsilon_box, "at least 0 and below 100")


def check_sampler(row: Any) -> None:
    """What the rows of a sampler without a density have. Raises as `check_common`."""
    check_learning(row)
    check("tau", 0 < row.tau <= 1, row.tau, "above 0 and at most 1")
    check("every", row.every >= 1, row.every, "at least 1")
    check("alpha", 1e-6 < row.alpha < 1e6, row.alpha, "between 1e-6 and 1e6")
    check("particles", row.particles >= 4, row.particles, "at least 4: half of them stand still, and one has no width")
    check("target_samples", row.target_samples >= 1, row.target_samples, "at least 1")


def check_iterations(row: Any) -> None:
    """What the rows of iterative inference have. Raises as `check_common`."""
    for name in ("iterations", "samples"):
        check(name, getattr(row, name) >= 1, getattr(row, name), "at least 1")
    for name in ("act_iterations", "act_samples", "target_iterations", "target_samples"):
        check(name, getattr(row, name) >= 0, getattr(row, name), "at least 0")
    for name in ("restart", "part"):
        check(name, 0 <= getattr(row, name) <= 1, getattr(row, name), "between 0 and 1")
    acting = row.act_iterations or row.iterations
    check("act_average", 1 <= row.act_average <= acting, row.act_average, f"between 1 and {acting}, the iterations")
