"""The ways to infer an action whose gain in the environment is measured, and the direct policy that they start from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import equinox as eqx

from estep.core.agent import Agent
from estep.core.optim import adam
from estep.core.slots import Inference, Posterior
from estep.e_steps.plans import Planner, acting_by
from estep.inference.closed_form import ClosedForm
from estep.inference.direct import Direct
from estep.inference.gradient import GradientAscent
from estep.inference.iterative import Iterative
from estep.inference.named import trained
from estep.inference.starts import AtPrior
from estep.inference.stein import Stein

EFFORTS = (1, 2, 5, 20)
"""Numbers of iterations, or of particles, that are measured."""
STEP_SIZE, SAMPLES = 3e-2, 4
"""Step size and samples of gradient ascent from the direct policy."""


class Way(NamedTuple):
    """A way to infer an action on the agent's critic, with its own family of posteriors."""

    inference: Inference
    posterior: Posterior


class ByPlan(eqx.Module):
    """A way to infer: the root of greatest weight of a search."""

    planner: Planner = eqx.field(static=True)


class Candidate(NamedTuple):
    """A way to infer, with its name."""

    optimiser: str
    iterations: int
    """Number of iterations; of particles and of plans, the number of particles."""
    way: Way | ByPlan


def direct_way(agent: Agent) -> Way | None:
    """How the direct policy acts: by the direct network, by the mode of the prior of particles, or by one sample of a
    sampler. None stands for the agent's own way to act."""
    own = agent.acting(agent.inference.model)
    if isinstance(own, Stein):
        return _with_particles(agent, own, 1)
    if isinstance(own, ClosedForm):
        return Way(AtPrior(), agent.posterior)
    network = trained(own, Direct)
    return None if network is None else Way(network, agent.posterior)


def candidates(agent: Agent, efforts: Sequence[int] = EFFORTS) -> list[Candidate]:
    """The optimisers that are measured: the agent's particles, its iterations, or else Adam from its direct policy; and
    its plans, if it acts by them.

    Args:
        agent: the agent.
        efforts: numbers of iterations, or of particles. One particle is the direct policy, so it is left out.
    """
    return [*optimisers(agent, efforts), *plans(agent)]


def plans(agent: Agent) -> list[Candidate]:
    """The agent's own plan, if it acts by plans."""
    if not isinstance(agent.behave, Planner):
        return []
    planner: Any = acting_by("plan", agent).behave
    return [Candidate("plan", planner.search.particles, ByPlan(planner))]


def optimisers(agent: Agent, efforts: Sequence[int]) -> list[Candidate]:
    """The optimisers of the posterior that are measured. The arguments are those of `candidates`."""
    own = agent.acting(agent.inference.model)
    if isinstance(own, Stein | ClosedForm):
        return [Candidate("particles", n, _with_particles(agent, own, n)) for n in efforts if n > 1]
    network = trained(own, Iterative)
    if network is not None:
        iterative = [(k, replace(network, steps=k, average=1)) for k in efforts]
        return [Candidate("iterative", k, Way(way, agent.posterior)) for k, way in iterative]
    start = trained(own, Direct) or own
    ascents = [(k, GradientAscent(k, SAMPLES, adam(STEP_SIZE), start)) for k in efforts]
    return [Candidate("semi-amortised", k, Way(way, agent.posterior)) for k, way in ascents]


def _with_particles(agent: Agent, own: Stein | ClosedForm, count: int) -> Way:
    posterior: Any = agent.posterior
    return Way(replace(own, samples=count), replace(posterior, samples=count))
