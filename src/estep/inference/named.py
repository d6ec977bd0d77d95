"""Inference optimisers by the name they have on the command line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from estep.core.agent import Agent, with_inference
from estep.core.optim import adam
from estep.core.slots import Inference
from estep.errors import UsageError
from estep.inference.cem import CEM, Ranking, by_soft_value, by_value
from estep.inference.direct import Direct
from estep.inference.gradient import GradientAscent, semi_amortised
from estep.inference.importance import Importance
from estep.inference.iterative import Iterations, Iterative
from estep.inference.starts import Restarts

N = TypeVar("N", bound=Inference)


class InferenceSettings(NamedTuple):
    """How to infer; None leaves it to the optimiser."""

    iterations: int | None = None
    draws: int | None = None
    restarts: int | None = None
    """Starts, all but one of them random, of which the best end by V is taken; None for the own start alone."""
    rank_by: str | None = None
    """What the cross-entropy method chooses its elite by, a name in RANKINGS."""

    def changes(self, iterations: str, draws: str) -> dict[str, Any]:
        """Iterations and draws, where they were given, by the names the optimiser has for them."""
        given = {iterations: self.iterations, draws: self.draws}
        return {name: value for name, value in given.items() if value is not None}


RANKINGS: dict[str, Ranking] = {"soft-value": by_soft_value, "value": by_value}


def _gradient(model: Any, effort: InferenceSettings) -> Inference:
    return GradientAscent(**({"steps": 100, "tx": adam(5e-2)} | effort.changes("steps", "samples")))


def _semi_amortised(model: Any, effort: InferenceSettings) -> Inference:
    return semi_amortised(model, GradientAscent(**({"steps": 10} | effort.changes("steps", "samples"))))


def _cem(model: Any, effort: InferenceSettings) -> Inference:
    return CEM(**effort.changes("iterations", "population"), ranking=RANKINGS[effort.rank_by or "soft-value"])


def _importance(model: Any, effort: InferenceSettings) -> Inference:
    return Importance(**({"iterations": 5} | effort.changes("iterations", "samples")))


def _trained(model: Any, kind: type[N]) -> N | None:
    """The optimiser of a kind among the run's own and what it starts from."""
    if isinstance(model, kind):
        return model
    return _trained(model.start, kind) if hasattr(model, "start") else None


def _iterative(model: Any, effort: InferenceSettings) -> Inference:
    found = _trained(model, Iterative)
    if found is None:
        raise UsageError(
            f"This run trained {type(model).__name__} inference, so there is no iterative network to run.",
            "Choose gradient, semi-amortised, cem or importance, which need none, or train iterative-sac.",
        )
    changed: Inference = Iterations(effort.iterations or found.steps, effort.draws or found.samples)(found)
    return changed


def _direct(model: Any, effort: InferenceSettings) -> Inference:
    found = _trained(model, Direct)
    if found is None:
        raise UsageError(
            "This run trained no direct network.",
            "Choose another optimiser, or train sac, or iterative-sac with --direct-start.",
        )
    if effort != InferenceSettings():
        what = "A direct network has no iterations, draws nothing and starts nowhere."
        raise UsageError(what, "Leave out --iterations, --samples and --restarts.")
    return found


OPTIMISERS: dict[str, Callable[[Any, InferenceSettings], Inference]] = {
    "direct": _direct,
    "iterative": _iterative,
    "gradient": _gradient,
    "semi-amortised": _semi_amortised,
    "cem": _cem,
    "importance": _importance,
}


def chosen(name: str, effort: InferenceSettings) -> Callable[[Agent], Agent]:
    """The change to an agent that makes it infer by the optimiser of this name.

    Raises: UsageError, where this optimiser ranks nothing; the change, where the run has not what it needs.
    """
    if effort.rank_by is not None and name != "cem":
        raise UsageError(f"{name} inference ranks no draws.", "Leave out --rank-by, or give --inference cem.")

    def change(agent: Agent) -> Agent:
        inference = OPTIMISERS[name](agent.acting(agent.inference.model), effort)
        return with_inference(agent, Restarts(inference, effort.restarts) if effort.restarts else inference)

    return change
