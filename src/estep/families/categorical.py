"""Distributions over discrete actions: the probabilities, and the family of all distributions."""

from __future__ import annotations

import functools as ft
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jax.lax import stop_gradient as sg
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
        return Draws(action, jnp.exp(log_q), log_ratio(log_q, log_probs_of(prior, action)))

    def _one_hot(self, index: Array) -> Action:
        return jax.nn.one_hot(index, self.logits.shape[0], dtype=self.logits.dtype)


MOST_COMBINATIONS = 256
"""Expectations over several choices are sums over all their combinations up to this many, else over samples."""


class FactoredCategorical(Distribution):
    """Several independent choices: log q(a) = Σ_i log softmax(logits_i)[a_i]. An action is their one-hot vectors.

    Example:
        >>> import jax.numpy as jnp
        >>> from estep import make_key
        >>> from estep.families.categorical import FactoredCategorical
        >>> q = FactoredCategorical(jnp.log(jnp.asarray([0.75, 0.25, 0.2, 0.5, 0.3])), sizes=(2, 3))
        >>> q.mode().tolist(), round(float(jnp.exp(q.log_prob(q.mode()))), 3)
        ([1.0, 0.0, 0.0, 1.0, 0.0], 0.375)
    """

    logits: Float[Array, " l"]
    sizes: tuple[int, ...] = eqx.field(static=True)
    """How many choices each part has."""
    enumerates: bool = eqx.field(static=True, default=False)
    """Whether `draw` gives all combinations with their probabilities; otherwise it gives samples."""

    @property
    def log_probs(self) -> Float[Array, " l"]:
        """log probability of each choice within its part."""
        part, place = places(self.sizes)
        return jax.nn.log_softmax(self._table(), axis=-1)[part, place]

    def sample(self, key: Key) -> Action:
        return self._one_hots(jax.random.categorical(key, self._table(), axis=-1))

    def log_prob(self, action: Action) -> Scalar:
        return jnp.where(action > 0.5, self.log_probs, 0.0).sum()

    def mode(self) -> Action:
        return self._one_hots(jnp.argmax(self._table(), axis=-1))

    def draw(self, key: Key, n: int, prior: Distribution) -> Draws:
        """All combinations with their probabilities, for any n; or n samples.

        The actions of samples have no gradient, so their weights have it: Σ_i w_i f_i has the value of a mean, and its
        gradient is that of the score with the mean of the other samples as baseline, which is unbiased.
        """
        if self.enumerates:
            action = jnp.asarray(combinations(self.sizes), self.logits.dtype)
            log_q = jax.vmap(self.log_prob)(action)
            return Draws(action, jnp.exp(log_q), log_ratio(log_q, jax.vmap(prior.log_prob)(action)))
        action = jax.vmap(self.sample)(jax.random.split(key, n))
        log_q = jax.vmap(self.log_prob)(action)
        score = log_q - sg(log_q)
        weight = 1.0 / n + (score - score.mean()) / (n - 1) if n > 1 else 1.0 + score
        if isinstance(prior, FactoredCategorical):
            return Draws(action, weight, jnp.full(n, categorical_kl(self, prior)))
        return Draws(action, weight, log_q - jax.vmap(prior.log_prob)(action))

    def _table(self) -> Float[Array, "k m"]:
        """The logits of each part in a row, filled up with -∞."""
        part, place = places(self.sizes)
        empty = jnp.full((len(self.sizes), max(self.sizes)), -jnp.inf, self.logits.dtype)
        return empty.at[part, place].set(self.logits)

    def _one_hots(self, index: Array) -> Action:
        part, place = places(self.sizes)
        return (index[part] == jnp.asarray(place, index.dtype)).astype(self.logits.dtype)


@ft.cache
def places(sizes: tuple[int, ...]) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """For each number of the one-hot vectors side by side [l]: its part, and its place in the part."""
    part = np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)
    return part, np.concatenate([np.arange(size, dtype=np.int32) for size in sizes])


@ft.cache
def combinations(sizes: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """All combinations of choices [n, l], as one-hot vectors side by side."""
    index = np.indices(sizes).reshape(len(sizes), -1).T
    return np.concatenate([np.eye(size, dtype=np.float32)[index[:, i]] for i, size in enumerate(sizes)], axis=1)


def log_probs_of(density: Distribution, choices: Float[Array, "n n"]) -> Float[Array, " n"]:
    """The log density of every choice. Of a `Categorical` no product over n by n numbers is needed.

    Args:
        density: a density over the choices.
        choices: all choices, as one-hot vectors.
    """
    return density.log_probs if isinstance(density, Categorical) else jax.vmap(density.log_prob)(choices)


def log_ratio(log_q: Float[Array, " n"], log_p: Float[Array, " n"]) -> Float[Array, " n"]:
    """log q/p of each choice, and 0 where q is 0, since 0 log 0 = 0."""
    possible = log_q > -jnp.inf
    return jnp.where(possible, log_q, 0.0) - jnp.where(possible, log_p, 0.0)


def categorical_kl(q: Categorical | FactoredCategorical, p: Categorical | FactoredCategorical) -> Scalar:
    """KL(q‖p) = Σ_a [q d + p - q], d = log q/p, in nats. Every term is ≥ 0. Of several choices it is the sum over them.

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
    count = density.logits.shape[0] if isinstance(density, Categorical) else 0
    if isinstance(density, FactoredCategorical) and density.enumerates:
        count = math.prod(density.sizes)
    if count:
        raise UsageError(f"This method needs draws, and these are all {count} choices.", fix)


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

    def start(self, prior: Distribution) -> Lam:
        """The logits of the prior, or zeros where it has none."""
        return prior.logits if isinstance(prior, Categorical) else jnp.zeros(self.action)

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
        return log_frequency(action, weight)


class FactoredSoftmax(Posterior):
    """Independent choices, q(a; λ) = Π_i softmax(λ_i)[a_i]: not every distribution over their combinations.

    Up to `MOST_COMBINATIONS` of them expectations are exact sums, and so are their gradients.
    """

    sizes: tuple[int, ...] = eqx.field(static=True)
    """How many choices each part has."""

    @property
    def block_sizes(self) -> tuple[int, ...]:
        return (sum(self.sizes),)

    def start(self, prior: Distribution) -> Lam:
        """The logits of the prior, or zeros where it has none."""
        return prior.logits if isinstance(prior, FactoredCategorical) else jnp.zeros(sum(self.sizes))

    def __call__(self, lam: Lam) -> Distribution:
        return FactoredCategorical(lam, self.sizes, math.prod(self.sizes) <= MOST_COMBINATIONS)

    def fit(self, action: Float[Array, "n a"], weight: Float[Array, " n"]) -> Lam:
        """The λ of greatest likelihood: the log of the frequency of each choice in its part. As `Softmax.fit`."""
        return log_frequency(action, weight)


def log_frequency(action: Float[Array, "n a"], weight: Float[Array, " n"]) -> Lam:
    """The log of the weighted frequency of each choice, finite where a choice has no weight."""
    return jnp.log(jnp.maximum(weight @ action, LEAST_PROBABILITY))


LEAST_PROBABILITY = 1e-30
"""Keeps the logarithm finite where a choice has no weight."""
