"""Inference optimisers by the name they have on the command line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from estep.core.agent import Agent, inferring_by
from estep.core.optim import adam
from estep.core.protocols import Inference
from estep.errors import UsageError
from estep.inference.cem import CEM
from estep.inference.direct import Direct
from estep.inference.gradient import GradientAscent, semi_amortised
from estep.inference.importance import Importance
from estep.inference.iterative import Iterations, Iterative


class Effort(NamedTuple):
    """How long to infer; None leaves it to the optimiser."""

    iterations: int | None
    samples: int | None

    def changes(self, iterations: str, samples: str) -> dict[str, Any]:
        """What was given, by the names the optimiser has for it."""
        given = {iterations: self.iterations, samples: self.samples}
        return {name: value for name, value in given.items() if value is not None}


def _gradient(model: Any, effort: Effort) -> Inference:
    return GradientAscent(**({"steps": 100, "tx": adam(5e-2)} | effort.changes("steps", "samples")))


def _semi_amortised(model: Any, effort: Effort) -> Inference:
    return semi_amortised(model, GradientAscent(**({"steps": 10} | effort.changes("steps", "samples"))))


def _cem(model: Any, effort: Effort) -> Inference:
    return CEM(**effort.changes("iterations", "population"))


def _importance(model: Any, effort: Effort) -> Inference:
    return Importance(**({"iterations": 5} | effort.changes("iterations", "samples")))


def _iterative(model: Any, effort: Effort) -> Inference:
    if not isinstance(model, Iterative):
        raise UsageError(
            f"This run trained {type(model).__name__} inference, so there is no iterative network to run.",
            "Choose gradient, semi-amortised, cem or importance, which need none, or train iterative-sac.",
        )
    changed: Inference = Iterations(effort.iterations or model.steps, effort.samples or model.samples)(model)
    return changed


def _direct(model: Any, effort: Effort) -> Inference:
    found = model.start if isinstance(model, Iterative) else model
    if not isinstance(found, Direct):
        raise UsageError(
            "This run trained no direct network.",
            "Choose another optimiser, or train sac, or iterative-sac with --direct-start.",
        )
    if effort != Effort(None, None):
        raise UsageError("A direct network has no iterations and draws nothing.", "Leave out --iterations and --draws.")
    return found


OPTIMISERS: dict[str, Callable[[Any, Effort], Inference]] = {
    "direct": _direct,
    "iterative": _iterative,
    "gradient": _gradient,
    "semi-amortised": _semi_amortised,
    "cem": _cem,
    "importance": _importance,
}


def chosen(name: str, iterations: int | None, draws: int | None) -> Callable[[Agent], Agent]:
    """The change to an agent that makes it infer by the optimiser of this name.

    Raises (the change): UsageError, where the run has not what the optimiser needs.
    """
    effort = Effort(iterations, draws)
    return lambda agent: inferring_by(agent, OPTIMISERS[name](agent.acting(agent.inference.model), effort))
