"""Distributions over discrete actions: the probabilities, and the family of all distributions."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from estep.core.slots import Distribution, Draws, Lam, Posterior
from estep.core.types import Action, Key, Scalar
from estep.errors import UsageError


class Categorical(Distribution):
    """Probabilities softmax(logits) of n choices. A logit of -∞ gives its choice no probability.

    Example:
        >>> import jax.numpy as jnp
        >>> from estep import make_key
        >>> from estep.families.categorical import Categorical
        >>> q = Categorical(jnp.log(jnp.asarray([0.75, 0.25])))
        >>> print(q.mode(), q.draw(make_key(0), 1, prior=q).weight)  # all choices, whatever the number
        [1. 0.] [0.75 0.25]
    """

    logits: Float[Array, " n"]

    @property
    def log_probs(self) -> Float[Array, " n"]:
        """log probability of each choice."""
        return jax.nn.log_softmax(self.logits)

    def sample(self, key: Key) -> Action:
        return self._one_hot(jax.random.categorical(key, self.logits))

    def log_prob(self, action: Action) -> Scalar:
        # a product with the one-hot vector would be 0 · -∞ at a forbidden choice
        return jnp.where(action > 0.5, self.log_probs, 0.0).sum()

    def mode(self) -> Action:
        return self._one_hot(jnp.argmax(self.logits))

    def draw(self, key: Key, n: int, prior: Distribution) -> Draws:
        """All choices, weighted by their probabilities, for any n.

        So V is exact, and its gradient too, which flows through the weights:
        d/dλ Σ π (Q - α log π/p) = Σ (dπ/dλ) (Q - α log π/p).
        """
        action = jnp.eye(self.logits.shape[0], dtype=self.logits.dtype)
        log_q = self.log_probs
        return Draws(action, jnp.exp(log_q), log_ratio(log_q, jax.vmap(prior.log_prob)(action)))

    def _one_hot(self, index: Array) -> Action:
        return jax.nn.one_hot(index, self.logits.shape[0], dtype=self.logits.dtype)


def log_ratio(log_q: Float[Array, " n"], log_p: Float[Array, " n"]) -> Float[Array, " n"]:
    """log q/p of each choice, and 0 where q is 0, since 0 log 0 = 0."""
    possible = log_q > -jnp.inf
    return jnp.where(possible, log_q, 0.0) - jnp.where(possible, log_p, 0.0)


def categorical_kl(q: Categorical, p: Categorical) -> Scalar:
    """KL(q‖p) = Σ_a [q d + p - q], d = log q/p, in nats. Every term is ≥ 0.

    Near d = 0, where a term is a difference of nearly equal numbers, it is q (d - 1 + e^-d) by its series.

    Example:
        >>> import jax.numpy as jnp
        >>> from estep.families.categorical import Categorical, categorical_kl
        >>> certain, equal = Categorical(jnp.asarray([0.0, -jnp.inf])), Categorical(jnp.zeros(2))
        >>> round(float(categorical_kl(certain, equal)), 3)  # log 2
        0.693
    """
    log_q, log_p = q.log_probs, p.log_probs
    d, probability = log_ratio(log_q, log_p), jnp.exp(log_q)
    small = (jnp.abs(d) < 0.1) & (log_q > -jnp.inf)
    x = jnp.where(small, d, 0.0)
    near = probability * jnp.square(x) * (1 / 2 - x * (1 / 6 - x * (1 / 24 - x * (1 / 120 - x / 720))))
    far = probability * jnp.where(small, 0.0, d) + jnp.exp(log_p) - probability
    return jnp.where(small, near, far).sum()


def check_draws(density: Distribution, fix: str) -> None:
    """Check that a density gives samples of equal weight, for methods that need them.

    Raises:
        UsageError: the density gives all its choices with their probabilities.
    """
    if isinstance(density, Categorical):
        raise UsageError(f"This method needs draws, and these are all {density.logits.shape[0]} choices.", fix)


class Softmax(Posterior):
    """q(a; λ) = softmax(λ)_a over n choices.

    The family has every distribution over the choices, so inference has no approximation gap: V is greatest at
    λ = log p + Q̂/α, where it is α log Σ_a p(a) exp(Q̂(a)/α).
    """

    action: int = eqx.field(static=True)
    """n, the number of choices."""

    @property
    def block_sizes(self) -> tuple[int, ...]:
        return (self.action,)

    @property
    def num_scales(self) -> int:
        return 0

    def start(self, prior: Distribution) -> Lam:
        """The logits of the prior, or zeros where it has none."""
        return prior.logits if isinstance(prior, Categorical) else jnp.zeros(self.action)

    def bound(self, lam: Lam, low: Float[Array, " k"], high: Float[Array, " k"]) -> Lam:
        return lam

    def __call__(self, lam: Lam) -> Distribution:
        return Categorical(lam)

    def fit(self, action: Float[Array, "n a"], weight: Float[Array, " n"]) -> Lam:
        """The λ of greatest likelihood: the log of the frequency of each choice.

        Args:
            action: samples u [n, a].
            weight: their weights, which sum to one.

        Example:
            >>> import jax.numpy as jnp
            >>> from estep.families.categorical import Softmax
            >>> action, weight = jnp.eye(2), jnp.asarray([0.25, 0.75])
            >>> print(jnp.exp(Softmax(action=2).fit(action, weight)).round(2))
            [0.25 0.75]
        """
        return jnp.log(jnp.maximum(weight @ action, LEAST_PROBABILITY))


LEAST_PROBABILITY = 1e-30
"""Keeps the logarithm finite where a choice has no weight."""
