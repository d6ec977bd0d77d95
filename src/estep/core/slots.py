"""The slots of the table. Everything is written for one state; the batch lives in `core.em` alone."""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
from jaxtyping import Array, Float

from estep.core.learned import Learned
from estep.core.types import Action, Info, Key, Obs, Scalar, Transition

Lam = Float[Array, " l"]
"""The parameters λ of an approximate posterior, as one flat vector."""


class Draws(NamedTuple):
    """n actions of q, their weights, and log q(a)/p(a) at each, or everywhere its mean, the KL, where that has a
    closed form. The weights sum to one in every state."""

    action: Float[Array, "n a"]
    weight: Float[Array, " n"]
    log_ratio: Float[Array, " n"]


class Distribution(eqx.Module):
    """A density over one action u."""

    @abc.abstractmethod
    def sample(self, key: Key) -> Action:
        """One action."""

    @abc.abstractmethod
    def log_prob(self, action: Action) -> Scalar:
        """log density at u, in nats, summed over action dimensions."""

    @abc.abstractmethod
    def mode(self) -> Action:
        """The action taken when no randomness is wanted."""

    @abc.abstractmethod
    def draw(self, key: Key, n: int, prior: Distribution) -> Draws:
        """n weighted draws with their log-ratio to the prior."""


class Prior(eqx.Module):
    """p(a|s)."""

    @abc.abstractmethod
    def __call__(self, obs: Obs) -> Distribution:
        """The prior in one state."""


class Posterior(eqx.Module):
    """A family q(a; λ)."""

    @property
    @abc.abstractmethod
    def block_sizes(self) -> tuple[int, ...]:
        """Sizes of the pieces of λ that differ in kind (for a Gaussian: a means, a log standard deviations)."""

    @property
    @abc.abstractmethod
    def num_scales(self) -> int:
        """How many log scales λ has: the size of the limits that `bound` takes."""

    @abc.abstractmethod
    def start(self, prior: Distribution) -> Lam:
        """λ_0, where inference starts."""

    @abc.abstractmethod
    def bound(self, lam: Lam, low: Float[Array, " k"], high: Float[Array, " k"]) -> Lam:
        """λ with its log scales moved smoothly into [low, high], the rest untouched."""

    @abc.abstractmethod
    def __call__(self, lam: Lam) -> Distribution:
        """q(·; λ)."""


class Bootstrap(NamedTuple):
    """What a critic's target may ask of the agent, for one step."""

    value: Callable[[Transition, Key], Scalar]
    """V̄(s'), the soft value of the next state under the slow critic."""
    penalty: Callable[[Transition, Key], Scalar]
    """κ = α KL(q‖p) at s, what a return of several steps is charged there; 0 where values are plain returns."""
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
        """Q̂ at the point u of one state."""

    @abc.abstractmethod
    def loss(self, batch: Transition, bootstrap: Bootstrap, key: Key) -> tuple[Scalar, Info]:
        """The regression loss on a batch of shape [B, T]."""


class Problem(NamedTuple):
    """Infer q(a|s) ∝ p(a|s) exp(Q̂(s, a)/α) in one state s."""

    obs: Obs
    prior: Prior
    likelihood: Likelihood
    alpha: Scalar


class Inferred(NamedTuple):
    """What an inference optimiser found, and what training it must know of the way there."""

    lam: Lam
    earlier: Scalar
    """A surrogate whose gradient is what the earlier iterates add to the climb of V; 0 for one shot."""
    values: Float[Array, " k"]
    """V(s; q) at the earlier iterates, from the start on; empty for one shot."""
    info: Info = {}  # noqa: RUF012, nobody writes to it
    """What else there is to look at, such as an effective sample size."""


class Inference(eqx.Module):
    """λ* ≈ argmax_λ V(s; q_λ)."""

    @abc.abstractmethod
    def __call__(self, problem: Problem, posterior: Posterior, key: Key) -> Inferred:
        """Solve one problem."""

    def evaluations(self, choices: int | None = None) -> tuple[int, int]:
        """What one inference costs in one state: pairs (s, a) at which Q̂ is evaluated, its start included, and how
        many of these with the gradient to the action, which costs about twice as much again.

        Args:
            choices: how many actions there are, where they are discrete: all of them are evaluated at once.
        """
        return 0, 0


class Temperature(eqx.Module):
    """α, or how it follows a constraint."""

    @abc.abstractmethod
    def __call__(self) -> Scalar:
        """α > 0."""

    @abc.abstractmethod
    def loss(self, kl: Float[Array, " b"]) -> tuple[Scalar, Info]:
        """A loss whose gradient moves α, given KL(q‖p) in every state of the batch."""


class Projection(eqx.Module):
    """How the M-step fits the prior to the posterior's draws (of shape [B, n])."""

    @abc.abstractmethod
    def __call__(self, prior: Learned[Prior], draws: Draws, obs: Float[Array, "b o"]) -> tuple[Learned[Prior], Info]:
        """The new prior."""
