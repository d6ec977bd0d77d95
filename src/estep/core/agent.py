"""An agent, and the algorithm that makes it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

import equinox as eqx
import jax
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


def fast_critic(likelihood: Learned[Likelihood]) -> Likelihood:
    """Infer on the critic that is trained."""
    return likelihood.model


def slow_critic(likelihood: Learned[Likelihood]) -> Likelihood:
    """Infer on the slow copy of the critic, from which targets are made."""
    return likelihood.slow


def as_it_is(agent: Agent, likelihood: Likelihood) -> Likelihood:
    """Infer on the critic itself."""
    return likelihood


CRITICS = {"fast": fast_critic, "slow": slow_critic}
"""By the name that the setting `infer_on` has for each."""


def fit_prior(agent: Agent, draws: Draws, obs: Float[Array, "b o"]) -> tuple[Agent, Info]:
    """Fit the prior alone: the M-step where the projection learns nothing itself.

    Args:
        agent: the agent after the E-step.
        draws: samples of the posterior [b, n].
        obs: the states of the samples.

    Returns:
        The agent with the prior's step pending, and scalars to log.
    """
    prior, info = agent.projection.model(agent.prior, draws, obs)
    return replace(agent, prior=prior), info


class Agent(eqx.Module):
    """An agent: six modules, which may have arrays, and the choices between functions.

    It is a pytree of arrays and static fields, so `jax.jit`, `jax.vmap` and `jax.lax.scan` apply to functions of it.

    Example:
        >>> from estep import SAC, Spec, make_key
        >>> agent = SAC(hidden_sizes=(8,)).init(Spec(obs_dim=3, action_dim=2), make_key(0))
        >>> type(agent.posterior).__name__, type(agent.prior.model).__name__, type(agent.inference.model).__name__
        ('Gaussian', 'Flat', 'Direct')
    """

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
    """Samples of q in the objective of the E-step."""
    target_samples: int = eqx.field(static=True, default=1)
    """Samples of q in the target of the critic."""
    acting: Callable[[Inference], Inference] = eqx.field(static=True, default=as_trained)
    """The inference optimiser as used to act."""
    targeting: Callable[[Inference], Inference] = eqx.field(static=True, default=as_trained)
    """The inference optimiser as used at s' in the target of the critic."""
    training_critic: Callable[[Learned[Likelihood]], Likelihood] = eqx.field(static=True, default=fast_critic)
    """The estimate of Q̂ that inference maximises in the E-step, and to find q at the next state of a target."""
    acting_critic: Callable[[Learned[Likelihood]], Likelihood] = eqx.field(static=True, default=fast_critic)
    """The estimate of Q̂ that inference maximises to act."""
    view: Callable[[Agent, Likelihood], Likelihood] = eqx.field(static=True, default=as_it_is)
    """From a critic to the estimate of Q̂ that inference sees, such as returns of imagined steps that end in the critic.
    It is applied wherever a problem is made for inference. The values of a target are always of the critic itself."""
    project: Callable[[Agent, Draws, Float[Array, "b o"]], tuple[Agent, Info]] = eqx.field(
        static=True, default=fit_prior
    )
    """How the M-step moves the prior, and the multipliers of its constraints where it has any."""
    infers: bool = eqx.field(static=True, default=True)
    """Whether `behave` uses the inference optimiser. An agent that acts from its prior does not."""
    remember: Callable[[Agent, Distribution, Action], Memo] | None = eqx.field(static=True, default=None)
    """What replay stores with a step that was sampled from this distribution; None stores nothing."""
    length: int = eqx.field(static=True, default=1)
    """T, the number of steps of each sequence of a batch."""
    rollout: int = eqx.field(static=True, default=0)
    """Steps of on-policy data that are learned from and then dropped; 0 learns from replay."""
    epochs: int = eqx.field(static=True, default=1)
    """How often each step of a rollout is learned from."""

    def problem(self, likelihood: Likelihood, obs: Obs) -> Problem:
        """The inference problem in one state, for the given estimate of Q̂."""
        return Problem(obs, self.prior.slow, likelihood, self.temperature.model(obs))

    def problem_from(self, inference: Inference, likelihood: Likelihood, obs: Obs, key: Key) -> Problem:
        """The inference problem in one state, as it is for an optimiser that starts where this one does.

        Args:
            inference: the optimiser.
            likelihood: the critic; the problem has Q̂ as `view` makes it of the critic.
            obs: the state.
            key: a random key.
        """
        likelihood = self.view(self, likelihood)
        problem = self.problem(likelihood, obs)

        def start() -> Action:
            return jax.lax.stop_gradient(inference.start_action(problem, self.posterior, key))

        return problem._replace(likelihood=likelihood.relative_to(obs, start))

    def acting_problem(self, obs: Obs, key: Key) -> Problem:
        """The inference problem that the agent solves to act in one state."""
        inference = self.acting(self.inference.model)
        return self.problem_from(inference, self.acting_critic(self.likelihood), obs, key)

    def infer(
        self, inference: Inference, likelihood: Likelihood, obs: Obs, key: Key
    ) -> tuple[Distribution, Problem, Inferred]:
        """The approximate posterior in one state.

        Args:
            inference: the optimiser, usually `inference.model` of this agent.
            likelihood: the critic, usually `likelihood.model` or its slow copy.
            obs: the state.
            key: a random key.

        Returns:
            q, the problem that was solved, and all that the optimiser returned.
        """
        problem = self.problem_from(inference, likelihood, obs, key)
        inferred = inference(problem, self.posterior, key)
        return self.posterior(inferred.lam), problem, inferred


class Algorithm(Protocol):
    """An algorithm: a frozen dataclass of settings that makes an agent. Any class with this method trains."""

    def init(self, spec: Spec, key: Key) -> Agent:
        """A fresh agent for an environment.

        Raises:
            UsageError: the algorithm does not support this kind of action.
        """


class Instead(Inference):
    """An inference optimiser that took the place of a trained one, and the policy whose value the critic is.

    An estimate of Q̂ that follows the policy, as returns of imagined steps do, follows the trained one as before.
    """

    inference: Inference
    evaluated: Inference

    def __call__(self, problem: Problem, posterior: Posterior, key: Key) -> Inferred:
        return self.inference(problem, posterior, key)


def to_act(inference: Any) -> Inference:
    """The optimiser of `Instead` that acts."""
    optimiser: Inference = inference.inference
    return optimiser


def to_be_evaluated(inference: Any) -> Inference:
    """The optimiser of `Instead` whose policy the critic evaluates."""
    optimiser: Inference = inference.evaluated
    return optimiser


def with_inference(agent: Agent, inference: Inference) -> Agent:
    """The agent with another inference optimiser, which is not trained; critic, prior and temperature are the same.

    Example:
        >>> from estep import SAC, Spec, make_key
        >>> from estep.core.agent import with_inference
        >>> from estep.inference.gradient import GradientAscent
        >>> agent = SAC(hidden_sizes=(8,)).init(Spec(obs_dim=3, action_dim=2), make_key(0))
        >>> type(with_inference(agent, GradientAscent(steps=50)).inference.model).__name__
        'GradientAscent'
    """
    if agent.view is as_it_is:
        return replace(agent, inference=fixed(inference), acting=as_trained, targeting=as_trained)
    instead = Instead(inference, agent.targeting(agent.inference.slow))
    return replace(agent, inference=fixed(instead), acting=to_act, targeting=to_be_evaluated)
