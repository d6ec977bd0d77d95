"""One row of the table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

import equinox as eqx
from jaxtyping import Array, Float

from estep.core.learned import Learned, fixed
from estep.core.slots import (
    Bootstrap,
    Distribution,
    Draws,
    Inference,
    Inferred,
    Likelihood,
    Posterior,
    Prior,
    Problem,
    Projection,
    Temperature,
)
from estep.core.types import Action, Info, Key, Memo, Obs, Spec, Transition


def as_trained(inference: Inference) -> Inference:
    """Infer with the settings of training."""
    return inference


def fit_prior(agent: Agent, draws: Draws, obs: Float[Array, "b o"]) -> tuple[Agent, Info]:
    """Fit the prior alone."""
    prior, info = agent.projection.model(agent.prior, draws, obs)
    return replace(agent, prior=prior), info


class Agent(eqx.Module):
    """One row of the table: six modules, which may hold arrays, and the choices between functions."""

    prior: Learned[Prior]
    posterior: Posterior
    inference: Learned[Inference]
    likelihood: Learned[Likelihood]
    temperature: Learned[Temperature]
    projection: Learned[Projection]
    spec: Spec = eqx.field(static=True)
    e_step: Callable[[Agent, Transition, Key], tuple[Agent, Draws, Any, Info]] = eqx.field(static=True)
    bootstrap: Callable[[Agent], Bootstrap] = eqx.field(static=True)
    behave: Callable[[Agent, Obs, Key], Distribution] = eqx.field(static=True)
    samples: int = eqx.field(static=True, default=1)
    """Draws of q in the E-step's objective."""
    target_samples: int = eqx.field(static=True, default=1)
    """Draws of q in the critic's target."""
    acting: Callable[[Inference], Inference] = eqx.field(static=True, default=as_trained)
    """The inference optimiser as used to act."""
    targeting: Callable[[Inference], Inference] = eqx.field(static=True, default=as_trained)
    """The inference optimiser as used at s' in the critic's target."""
    project: Callable[[Agent, Draws, Float[Array, "b o"]], tuple[Agent, Info]] = eqx.field(
        static=True, default=fit_prior
    )
    """How the M-step moves the prior, and the multipliers of its constraints where it has any."""
    infers: bool = eqx.field(static=True, default=True)
    """Whether `behave` infers. An agent that acts from its prior has no inference to act by."""
    remember: Callable[[Agent, Distribution, Action], Memo] | None = eqx.field(static=True, default=None)
    """What replay stores with a step that was sampled from this distribution; None stores nothing."""
    length: int = eqx.field(static=True, default=1)
    """T, steps in a row of each sequence of a batch."""
    rollout: int = eqx.field(static=True, default=0)
    """Steps after which the newest data are learned from and then dropped; 0 replays all that are kept."""
    epochs: int = eqx.field(static=True, default=1)
    """How often each step of a rollout is learned from."""

    def problem(self, likelihood: Likelihood, obs: Obs) -> Problem:
        """The inference problem in one state, under the given estimate of Q̂."""
        return Problem(obs, self.prior.slow, likelihood, self.temperature.model())

    def infer(
        self, inference: Inference, likelihood: Likelihood, obs: Obs, key: Key
    ) -> tuple[Distribution, Problem, Inferred]:
        """The approximate posterior in one state."""
        problem = self.problem(likelihood, obs)
        inferred = inference(problem, self.posterior, key)
        return self.posterior(inferred.lam), problem, inferred


class Algorithm(Protocol):
    """An algorithm: a frozen dataclass of settings that makes an agent. Any class with this method trains."""

    def init(self, spec: Spec, key: Key) -> Agent:
        """A fresh agent for an environment.

        Raises:
            UsageError: the environment has a kind of action that the algorithm has no form for.
        """


def with_inference(agent: Agent, inference: Inference) -> Agent:
    """The agent with another inference optimiser, over the same critic, prior and temperature; it learns no more."""
    return replace(agent, inference=fixed(inference), acting=as_trained, targeting=as_trained)
