"""The slots of the table: one contract for each kind of component. Only `core.em` has a batch axis.

A member of a slot keeps the contract of its slot. Its docstring says what is special about it.
"""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from estep.core.learned import Learned
from estep.core.types import Action, Info, Key, Obs, Scalar, Transition

Lam = Float[Array, " l"]
"""The parameters λ of an approximate posterior, as one flat vector."""


class Draws(NamedTuple):
    """n weighted samples of q in one state: E_q[f] ≈ `weight` @ f(`action`), and KL(q‖p) ≈ `weight` @ `log_ratio`."""

    action: Float[Array, "n a"]
    """Points u."""
    weight: Float[Array, " n"]
    """They sum to one."""
    log_ratio: Float[Array, " n"]
    """log q(u)/p(u) in nats; where KL(q‖p) has a closed form, the KL itself at every sample."""


class Distribution(eqx.Module):
    """A density over one action u."""

    knows_ratio: ClassVar[bool] = True
    """Whether `draw` knows the log-ratio to the prior. Without it there is no KL(q‖p)."""

    @abc.abstractmethod
    def sample(self, key: Key) -> Action:
        """One action."""

    @abc.abstractmethod
    def log_prob(self, action: Action) -> Scalar:
        """log density at u, in nats, summed over the dimensions of the action."""

    @abc.abstractmethod
    def mode(self) -> Action:
        """The deterministic action."""

    def draw(self, key: Key, n: int, prior: Distribution) -> Draws:
        """Weighted samples, differentiable in the parameters of the density, with their log-ratio to the prior.

        Here they are n equally weighted calls of `sample`, which is then differentiable: u = f(noise, parameters).

        Args:
            key: a random key.
            n: how many samples. A density that is a set of points gives all its points instead.
            prior: the density of the log-ratio.
        """
        action = jax.vmap(self.sample)(jax.random.split(key, n))
        log_ratio = jax.vmap(lambda u: self.log_prob(u) - prior.log_prob(u))(action)
        return Draws(action, jnp.full(n, 1.0 / n), log_ratio)


class Prior(eqx.Module):
    """The prior p(a|s)."""

    @abc.abstractmethod
    def __call__(self, obs: Obs) -> Distribution:
        """p(·|s) in one state."""


class Posterior(eqx.Module):
    """A family q(a; λ) of approximate posteriors. After the E-step, no code depends on the family."""

    free: ClassVar[bool] = True
    """Whether every λ is a posterior that inference may choose. Where a part of λ is the output of a network that has
    no other form, an optimiser of λ would choose what the network cannot give, and pay nothing for it."""

    @property
    @abc.abstractmethod
    def block_sizes(self) -> tuple[int, ...]:
        """Sizes of the blocks of λ that differ in kind (of a Gaussian: a means, a log standard deviations)."""

    @property
    def num_scales(self) -> int:
        """k, the number of log scales in λ: the size of the limits of `bound`. Here there are none."""
        return 0

    @abc.abstractmethod
    def start(self, prior: Distribution) -> Lam:
        """λ_0, where inference starts."""

    def bound(self, lam: Lam, low: Float[Array, " k"], high: Float[Array, " k"]) -> Lam:
        """λ with its log scales moved smoothly into [low, high], and the rest as it was.

        Args:
            lam: λ.
            low: the lower limit of each log scale.
            high: the upper limit of each log scale.
        """
        return lam

    @abc.abstractmethod
    def __call__(self, lam: Lam) -> Distribution:
        """q(·; λ)."""


class Bootstrap(NamedTuple):
    """What a critic's target may use of the agent: functions of one step and a key."""

    value: Callable[[Transition, Key], Scalar]
    """V̄(s'), the soft value of the next state under the slow critic."""
    penalty: Callable[[Transition, Key], Scalar]
    """κ = α KL(q‖p) at s, the cost of s in a return of several steps; 0 where values are plain returns."""
    q: Callable[[Transition, Key], Scalar]
    """Q̄(s, a) of the slow critic."""
    log_prob: Callable[[Transition, Key], Scalar]
    """log π(a|s) of the policy whose value this is."""
    soft: bool = True
    """Whether α KL(q‖p) of the next states is a cost in `value`; False where values are plain returns."""


class Likelihood(eqx.Module):
    """Q̂(s, a) ≈ α log p(O|s, a), and how it is fitted once other states have values."""

    @abc.abstractmethod
    def __call__(self, problem: Problem, action: Action, key: Key) -> Scalar:
        """Q̂ at the point u of one state, in units of the reward.

        Args:
            problem: the state, with p and α for estimates that need them.
            action: u.
            key: a random key, for estimates that are random.
        """

    def relative_to(self, obs: Obs, start: Callable[[], Action]) -> Likelihood:
        """The estimate as inference maximises it in one state where it starts at an action.

        Args:
            obs: the state.
            start: gives the action a_0, at which inference starts. Only an estimate that depends on it calls it.

        Returns:
            The estimate itself, unless it judges an action by its difference to a_0.
        """
        return self

    @abc.abstractmethod
    def loss(self, batch: Transition, bootstrap: Bootstrap, key: Key) -> tuple[Scalar, Info]:
        """The regression loss, averaged over a batch.

        Args:
            batch: steps [B, T].
            bootstrap: values of other states, under the slow critic.
            key: a random key.

        Returns:
            The loss, and scalars to log.
        """


class Problem(NamedTuple):
    """Infer q(a|s) ∝ p(a|s) exp(Q̂(s, a)/α) in one state s."""

    obs: Obs
    prior: Prior
    likelihood: Likelihood
    alpha: Scalar


class Inferred(NamedTuple):
    """The result of an inference optimiser, and what the training of the optimiser needs."""

    lam: Lam
    earlier: Scalar
    """A surrogate: its gradient is what the earlier iterates add to the gradient of V; 0 without iterates."""
    values: Float[Array, " k"]
    """V(s; q) at the earlier iterates, from the start on; empty without iterates."""
    info: Info = {}  # noqa: RUF012, nobody writes to it
    """Scalars to log, such as an effective sample size."""


class Inference(eqx.Module):
    """An inference optimiser: λ* ≈ argmax_λ V(s; q_λ) in one state."""

    @abc.abstractmethod
    def __call__(self, problem: Problem, posterior: Posterior, key: Key) -> Inferred:
        """Solve one problem.

        Args:
            problem: the state, p, Q̂ and α.
            posterior: the family of q.
            key: a random key.
        """

    def start_action(self, problem: Problem, posterior: Posterior, key: Key) -> Action:
        """a_0, the mode of the distribution at which inference starts: of an optimiser without iterations, its result.

        Args:
            problem: the state, p, Q̂ and α.
            posterior: the family of q.
            key: a random key.
        """
        return posterior(self(problem, posterior, key).lam).mode()

    def evaluations(self, choices: int | None = None) -> tuple[int, int]:
        """What one inference costs in one state, with its start.

        Args:
            choices: the number of choices, where actions are discrete: Q̂ is then evaluated at all of them.

        Returns:
            The number of pairs (s, a) at which Q̂ is evaluated, and for how many of them also its gradient with respect
            to a, which costs about twice as much again.
        """
        return 0, 0


class Temperature(eqx.Module):
    """The temperature α: fixed, or the multiplier of a constraint."""

    @abc.abstractmethod
    def __call__(self, obs: Obs) -> Scalar:
        """α > 0 in one state, in units of the reward per nat. It may depend on the task alone, whose one-hot vector is
        at the end of the observation; with one α for all tasks, the state is not read."""

    @abc.abstractmethod
    def loss(self, kl: Float[Array, " b"], obs: Float[Array, "b o"]) -> tuple[Scalar, Info]:
        """A loss whose gradient moves α, and scalars to log.

        Args:
            kl: KL(q‖p) in nats in every state of the batch.
            obs: the states.
        """


class Projection(eqx.Module):
    """How the M-step fits the prior to samples of the posterior."""

    @abc.abstractmethod
    def __call__(self, prior: Learned[Prior], draws: Draws, obs: Float[Array, "b o"]) -> tuple[Learned[Prior], Info]:
        """The prior with its step pending, and scalars to log.

        Args:
            prior: the prior.
            draws: samples of the posterior [b, n], one row for each state.
            obs: the states.
        """
