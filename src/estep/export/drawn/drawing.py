"""Drawn actions of a policy, in NumPy alone. policy.py imports this file where contract.json says that they are drawn.

Each kind asks a generator of NumPy for standard normal and Gumbel numbers, always in the same order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import accumulate
from typing import Any

import numpy as np

from estep.export.inference import alpha_at, inferred, points, q_values
from estep.export.policy import Array, output, product, soft_bound, softmax


def normal(generator: Any, *shape: int) -> Array:
    return np.asarray(generator.standard_normal(shape), np.float32)


def gumbel(generator: Any, n: int) -> Array:
    """Noise g for which the largest of log p + g is drawn from p."""
    return np.asarray(generator.gumbel(size=n), np.float32)


def lower(entries: Array, a: int) -> Array:
    """The matrix with these entries below its diagonal, row by row."""
    matrix = np.zeros((a, a), np.float32)
    matrix[np.tril_indices(a, -1)] = entries
    return matrix


def of_gaussian(lam: Array, g: Any, a: int, bounds: Any) -> Array:
    mu, raw = lam[:a], lam[a : 2 * a]
    return mu + np.exp(soft_bound(raw, *bounds) if bounds else raw) * normal(g, a)


def of_full_gaussian(lam: Array, g: Any, a: int, bounds: Any) -> Array:
    noise = normal(g, a)
    return lam[:a] + np.exp(soft_bound(lam[a : 2 * a], *bounds)) * (noise + lower(lam[2 * a :], a) @ noise)


def of_autoregressive(lam: Array, g: Any, a: int, bounds: Any) -> Array:
    """Each dimension given those before it."""
    noise, below, u = normal(g, a), a * (a - 1) // 2, np.zeros(a, np.float32)
    log_sigma = soft_bound(lam[a : 2 * a], *bounds)
    bend, fan = lower(lam[2 * a : 2 * a + below], a), np.tanh(lower(lam[2 * a + below :], a)) / max(1, a - 1)
    for _ in range(a):
        before = np.tanh(u)
        u = lam[:a] + bend @ before + np.exp(log_sigma + fan @ before) * noise
    return u


def of_mixture(lam: Array, g: Any, k: int, bounds: Any) -> Array:
    """One of k Gaussians, and a point of it."""
    mu, raw = lam[k:].reshape(2, k, -1)
    i = (lam[:k] + gumbel(g, k)).argmax()
    return mu[i] + np.exp(soft_bound(raw[i], *bounds)) * normal(g, mu.shape[1])


def of_choices(logits: Array, g: Any, *sizes: int) -> Array:
    """A choice of each part, as one-hot vectors side by side."""
    parts = np.split(logits + gumbel(g, sum(sizes)), list(accumulate(sizes))[:-1])
    return np.concatenate([np.eye(n, dtype=np.float32)[one.argmax()] for n, one in zip(sizes, parts, strict=True)])


FAMILIES: Mapping[str, Callable[..., Array]] = {
    "gaussian": of_gaussian,
    "full-gaussian": of_full_gaussian,
    "autoregressive": of_autoregressive,
    "mixture": of_mixture,
    "choices": of_choices,
}
"""From the parameters λ of a distribution to a point u that is drawn from it."""
sample: Callable[..., Array] = lambda p, lam, g: FAMILIES[p["family"][0]](lam, g, *p["family"][1:])


def direct(p: Mapping[str, Any], x: Array, g: Any) -> Array:
    """From the distribution that a network gives."""
    return sample(p, output(p["net"], x), g)


def levels(p: Mapping[str, Any], x: Array, g: Any) -> Array:
    """A latent z, then an action given z."""
    z = of_gaussian(output(p["top"], x), g, p["latent"], p["top_bounds"])
    return sample(p, output(p["net"], x, z), g)


def columns(p: Mapping[str, Any], x: Array, g: Any) -> Array:
    """From the product of what all tasks share, to a power, and of what one task adds."""
    shared, own = output(p["shared"], x), output(p["net"], x)
    if p["family"][0] == "choices":
        return sample(p, p["share"] * shared + own, g)
    mu, precision = product(p, shared, own)
    return mu + precision**-0.5 * normal(g, len(mu))


def sampler(p: Mapping[str, Any], x: Array, g: Any) -> Array:
    """One point that the network makes of noise."""
    return points({**p, "noise": normal(g, 1, p["noise"].shape[1])}, x)[0]


def weighted(p: Mapping[str, Any], x: Array, g: Any) -> Array:
    """One of n samples of the prior, each as likely as exp(Q̂/α) says."""
    u = points({**p, "noise": normal(g, *p["noise"].shape)}, x)
    return u[(q_values(p, x, u)[0] / alpha_at(p, x) + gumbel(g, len(u))).argmax()]


def exact(p: Mapping[str, Any], x: Array, g: Any) -> Array:
    """A choice, each as likely as p exp(Q̂/α) says."""
    q = q_values(p, x, np.eye(p["mode"][1], dtype=np.float32))[0]
    log_p = np.log(softmax(output(p["net"], x))) if p["net"] else 0.0
    return sample(p, log_p + (q - q.max()) / alpha_at(p, x), g)


def iterative(p: Mapping[str, Any], x: Array, g: Any) -> Array:
    """From the distribution that inference ends at."""
    steps, n, a = p["noise"].shape
    noise = normal(g, steps, (n + 1) // 2 if p["pairs"] else n, a)
    noise = np.concatenate([noise, -noise], 1)[:, :n] if p["pairs"] else noise
    return sample(p, inferred({**p, "noise": noise}, x), g)


KINDS: Mapping[str, Callable[..., Array]] = {
    "direct": direct,
    "levels": levels,
    "columns": columns,
    "sampler": sampler,
    "weighted": weighted,
    "exact": exact,
    "iterative": iterative,
}
