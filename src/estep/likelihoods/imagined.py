"""Returns of imagined steps: Q̂(s, a) by a model of the environment for a few steps, and by the critic from there on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.lax import stop_gradient as sg
from jaxtyping import Array, Int

from estep.core.agent import Agent, as_it_is
from estep.core.keys import make_key
from estep.core.learned import Learned
from estep.core.model import Model
from estep.core.slots import Bootstrap, Distribution, Inference, Likelihood, Posterior, Problem
from estep.core.types import Action, Info, Key, Scalar, Squash, Transition
from estep.likelihoods.dynamics import WorldModel
from estep.likelihoods.q_function import biased_std


class Policy(eqx.Module):
    """The policy of imagined steps, the one whose value the target of the critic is."""

    inference: Inference | None
    """None for a policy that is the prior."""
    posterior: Posterior

    def __call__(self, problem: Problem, key: Key) -> Distribution:
        if self.inference is None:
            return problem.prior(problem.obs)
        return self.posterior(self.inference(problem, self.posterior, key).lam)


@dataclass(frozen=True)
class Returns:
    """How returns of imagined steps are taken."""

    horizon: int
    """h, the number of imagined steps."""
    gamma: float
    lam: float = 0.9
    """λ: near 1 the last of the returns of 1..h steps counts, at 0 the first."""
    soft: bool = True
    """Whether α log q(a)/p(a) of later steps is a cost, as it is in the critic."""
    members: int = 1
    """How many members of the model estimate a return."""
    beta: float = 0.0
    """Pessimism: the estimate is mean - β std over these members."""


class Imagined(Likelihood):
    """Q̂^λ(s, a), the λ-return of h imagined steps that follow a policy:

        Q̂^λ = Q_0 + Σ_{k<h} (γλ)^k c_k (r_k + γ g_k V_{k+1} - Q_k),   c_k = Π_{j<k} g_j,
        V_k = Q_k - α log q(a_k|s_k)/p(a_k|s_k)

    Rewards r and probabilities g of going on are expectations, and states are sampled. With h = 0 it is the critic. The
    gradient goes through the action, the model and the policy's inputs; the parameters of all three have none.
    """

    critic: Likelihood
    model: Model
    policy: Policy
    squash: Squash
    turn: Scalar
    """The first of the members that estimate a return."""
    returns: Returns = eqx.field(static=True)

    def __call__(self, problem: Problem, action: Action, key: Key) -> Scalar:
        how = self.returns
        members = (self.turn.astype(jnp.int32) + jnp.arange(how.members, dtype=jnp.int32)) % self.model.members
        if how.members == 1:
            return self.imagine(problem, action, key, members[0])
        values = jax.vmap(lambda member: self.imagine(problem, action, key, member))(members)  # with the same noise
        return values.mean() - how.beta * biased_std(values) if how.beta else values.mean()

    def imagine(self, problem: Problem, action: Action, key: Key, member: Int[Array, ""]) -> Scalar:
        """The λ-return that one member estimates.

        Args:
            problem: the state, with p and α.
            action: u.
            key: a random key, of the noise of states and of later actions.
            member: its number.
        """
        how, weight = self.returns, jnp.ones(())
        k_first, *keys = jax.random.split(key, how.horizon + 1)
        total = value = self.critic(problem, action, k_first)
        for k in keys:
            k_state, k_policy, k_action, k_value = jax.random.split(k, 4)
            found = self.model.predict(problem.obs, self.squash(action), member)
            noise = jax.random.normal(k_state, found.mean.shape, found.mean.dtype)
            problem = problem._replace(obs=found.mean + found.std * noise, likelihood=self.critic)
            action, log_ratio = sample(self.policy(problem, k_policy), problem.prior(problem.obs), k_action, how.soft)
            after = self.critic(problem, action, k_value)
            total += weight * (found.reward + how.gamma * found.go_on * (after - problem.alpha * log_ratio) - value)
            weight *= how.gamma * how.lam * found.go_on
            value = after
        return total

    def loss(self, batch: Transition, bootstrap: Bootstrap, key: Key) -> tuple[Scalar, Info]:
        return self.critic.loss(batch, bootstrap, key)


def sample(q: Distribution, prior: Distribution, key: Key, soft: bool) -> tuple[Action, Scalar]:
    """One action of a policy, and log q/p, or KL(q‖p) where it has a closed form; 0 where it is no cost.

    Args:
        q: the policy in one state.
        prior: p in this state.
        key: a random key.
        soft: whether the log-ratio is a cost.
    """
    if not soft:
        return q.sample(key), jnp.zeros(())
    draws = q.draw(key, 1, prior)
    action = draws.action[0] if draws.action.shape[0] == 1 else q.sample(key)  # over choices, `draw` gives all of them
    return action, draws.weight @ draws.log_ratio


@dataclass(frozen=True)
class Expand:
    """A view of the critic, for `Agent.view`: returns of imagined steps that end in it.

    The policy that they follow is that of the critic's target: the slow prior where values are plain returns, else the
    inference optimiser as `Agent.targeting` makes it of its slow copy. It is asked in every imagined state, so it
    should need no Q̂.
    """

    returns: Returns

    def __call__(self, agent: Agent, likelihood: Likelihood) -> Likelihood:
        learned: Any = agent.likelihood
        policy = agent.targeting(agent.inference.slow) if self.returns.soft else None
        model: Model = frozen(learned.model.dynamics)
        return Imagined(
            frozen(critic_of(likelihood)),
            model,
            Policy(frozen(policy), agent.posterior),
            agent.spec.squash,
            (learned.count % model.members).astype(float),
            self.returns,
        )


def frozen(part: Any) -> Any:
    """A module whose parameters have no gradient."""
    return jax.tree.map(sg, part)


def critic_of(likelihood: Likelihood) -> Likelihood:
    """The critic beside which a model is learned, or the critic itself."""
    return likelihood.critic if isinstance(likelihood, WorldModel) else likelihood


class SameNoise(Likelihood):
    """An estimate of Q̂ that is random, with the same few random numbers at every call: so it is a function, of which
    values at different actions can be compared and integrated."""

    inner: Likelihood
    repeats: int = eqx.field(static=True, default=8)
    """Over how many estimates the mean is taken."""

    def __call__(self, problem: Problem, action: Action, key: Key) -> Scalar:
        keys = jax.random.split(make_key(0), self.repeats)
        return jax.vmap(lambda key: self.inner(problem, action, key))(keys).mean()

    def loss(self, batch: Transition, bootstrap: Bootstrap, key: Key) -> tuple[Scalar, Info]:
        return self.inner.loss(batch, bootstrap, key)


@dataclass(frozen=True)
class Still:
    """A view, as another one makes it, with the same random numbers at every call."""

    view: Any
    """The other view."""

    def __call__(self, agent: Agent, likelihood: Likelihood) -> Likelihood:
        return SameNoise(self.view(agent, likelihood))


def measured(agent: Agent, imagined: bool = True) -> Agent:
    """The agent as its inference is measured: with a Q̂ that is no longer random, or with the critic itself.

    Args:
        agent: any agent; one without imagined steps stays as it is.
        imagined: whether Q̂ is that of inference. Without it, it is the critic.
    """
    if agent.view is as_it_is:
        return agent
    return replace(agent, view=Still(agent.view) if imagined else as_it_is)


def estimate_name(agent: Agent) -> str:
    """The Q̂ that an agent's inference sees, in words."""
    view = agent.view.view if isinstance(agent.view, Still) else agent.view
    if not isinstance(view, Expand):
        return "the critic"
    how = view.returns
    spread = f", mean - {how.beta:g} std of {how.members} members" if how.members > 1 else ""
    return f"returns of {how.horizon} imagined steps{spread}"


@dataclass(frozen=True)
class OfCritic:
    """The choice of a critic, for `Agent.training_critic` and `acting_critic`, where a model is learned beside it."""

    choose: Any
    """From the learned critic to the estimate that inference maximises."""

    def __call__(self, likelihood: Learned[Likelihood]) -> Likelihood:
        learned: Any = likelihood
        target = None if learned.target is None else learned.target.critic
        chosen: Likelihood = self.choose(replace(learned, model=learned.model.critic, target=target))
        return chosen
