"""Rows that infer while they act, in NumPy alone: candidates that the critics rank, and iterative inference.

The gradient of the critics is written out, layer by layer. policy.py imports this file where its program needs it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from typing import Any

import numpy as np

from estep.export.policy import (
    LAYERS,
    SQUASH,
    Array,
    inputs,
    length,
    mode,
    of_choices,
    output,
    sigmoid,
    soft_bound,
    softmax,
    total,
)

BACK: Mapping[str, Callable[..., Array]] = {
    "linear": lambda g, x, y, weight, bias: g @ weight.T,
    "relu": lambda g, x, y: g * (x > 0.0),
    "elu": lambda g, x, y: g * np.minimum(y + 1.0, 1.0),
    "silu": lambda g, x, y: g * sigmoid(x) * (1.0 + x - y),
    "centre": lambda g, x, y: g - g.mean(-1, keepdims=True),
    "unit": lambda g, x, y, least: (g - y * total(g * y)) / length(x, least),
    "softmax": lambda g, x, y: y * (g - total(g * y)),
    "affine": lambda g, x, y, factor, shift: factor * g,
    "block": lambda g, x, y, inner, keep, mix: keep * g + pull(inner, x)[1](mix * g),
}
"""From the gradient g of the output y of a layer to that of its input x."""


def pull(layers: Sequence[Any], x: Array) -> tuple[Array, Callable[[Array], Array]]:
    """What layers make of x, and the function from the gradient of that to the gradient of x."""
    steps = []
    for kind, *given in layers:
        y = LAYERS[kind](x, *given)
        steps.append((BACK[kind], x, y, given))
        x = y

    def back(g: Array) -> Array:
        for function, before, after, given in reversed(steps):
            g = function(g, before, after, *given)
        return g

    return x, back


def q_values(p: Mapping[str, Any], x: Array, u: Array) -> tuple[Array, Callable[[], Array]]:
    """Q̂ = mean - β std of k critics at points u [n, a], and the function that gives its gradient there [n, a]."""
    action = SQUASH[p["squash"]](u)
    found = [pull(net["layers"], inputs(net, x, [action])) for net in p["critics"]]
    q, k = np.stack([value[:, 0] for value, _ in found]), len(found)
    apart = q - q.mean(0)
    std = np.abs(apart[0]) if k == 2 else np.sqrt(np.square(apart).mean(0) + np.float32(1e-6))

    def slope() -> Array:
        share = 1.0 / k - p["beta"] * (0.5 * np.sign(apart) if k == 2 else apart / (k * std))
        g = np.stack([back(one[:, None])[:, -u.shape[1] :] for one, (_, back) in zip(share, found, strict=True)])
        inside = {"tanh": 1.0 - np.square(action), "clip": np.abs(u) <= 1.0, "none": np.ones_like(u)}
        return np.asarray(g.sum(0) * inside[p["squash"]])

    return q.mean(0) - p["beta"] * std, slope


def points(p: Mapping[str, Any], x: Array) -> Array:
    """The points that a network makes of noise, or samples of a Gaussian that a network gives."""
    if p["kind"] == "sampler":
        return p["noise"] + output(p["net"], x, p["noise"])
    mu, raw = np.split(output(p["net"], x), 2)
    return mu + np.exp(soft_bound(raw, *p["bounds"])) * p["noise"]


def best(p: Mapping[str, Any], x: Array) -> Array:
    """Of these points, the one of greatest Q̂."""
    u = points(p, x)
    return np.asarray(of_choices(q_values(p, x, u)[0], len(u)) @ u)


def exact(p: Mapping[str, Any], x: Array) -> Array:
    """Of all choices, the one of greatest log p + Q̂/α."""
    q = q_values(p, x, np.eye(p["mode"][1], dtype=np.float32))[0]
    log_p = np.log(softmax(output(p["net"], x))) if p["net"] else 0.0
    return of_choices(log_p + (q - q.max()) / alpha_at(p, x), p["mode"][1])


def alpha_at(p: Mapping[str, Any], x: Array) -> Array:
    """The temperature: one for all tasks, or that of the task at the end of the state."""
    n = len(p["alpha"])
    return np.asarray(p["alpha"][0] if n == 1 else p["alpha"] @ x[-n:])


def value_slope(p: Mapping[str, Any], x: Array, lam: Array, noise: Array) -> Array:
    """∂V/∂λ of V = E_q[Q̂] - α KL(q‖p), where the prior is flat over actions."""
    alpha = alpha_at(p, x)
    if p["mode"][0] == "choices":
        probability = softmax(lam)
        worth = q_values(p, x, np.eye(len(lam), dtype=np.float32))[0] - alpha * np.log(probability)
        return np.asarray(probability * (worth - total(probability * worth)))
    mu, log_sigma = np.split(lam, 2)
    u = mu + np.exp(log_sigma) * noise
    g = q_values(p, x, u)[1]()
    if p["squash"] == "tanh":  # log |da/du| = log(1 - tanh² u) belongs to the density over actions
        g = g - 2.0 * alpha * np.tanh(u)
    return np.concatenate([g.mean(0), (g * np.exp(log_sigma) * noise).mean(0) + alpha])


def standardised(x: Array, sizes: Sequence[int]) -> Array:
    """Each block of a vector less its mean, over its standard deviation; a block of one number as it is."""

    def each(part: Array) -> Array:
        if len(part) == 1:
            return part
        unit = np.maximum(np.abs(part).max(), 1e-30)
        apart = part / unit - (part / unit).mean()
        return np.asarray(apart / (np.sqrt(np.square(apart).sum() / (len(part) - 1)) + 1e-7 / np.maximum(unit, 1.0)))

    return np.concatenate([each(part) for part in np.split(x, list(accumulate(sizes))[:-1])])


ENCODINGS: Mapping[str, Callable[..., tuple[Array, Array]]] = {
    "log_sign": lambda lam, grad, sizes: (lam, np.sign(grad) * np.log1p(10.0 * np.abs(grad))),
    "layer_norm": lambda lam, grad, sizes: (standardised(lam, sizes), standardised(grad, sizes)),
    "raw": lambda lam, grad, sizes: (lam, grad),
}
"""How a network reads λ and the gradient of -V."""


def within(p: Mapping[str, Any], lam: Array, low: Any, high: Any) -> Array:
    """λ with its log standard deviations inside their limits."""
    if p["mode"][0] == "choices":
        return lam
    mu, log_sigma = np.split(lam, 2)
    return np.concatenate([mu, soft_bound(log_sigma, low, high)])


def inferred(p: Mapping[str, Any], x: Array) -> Array:
    """λ ← ω λ + (1 - ω) δ, where a network gives δ and ω for λ and the gradient of -V there; N times."""
    lam = within(p, output(p["start"], x), *p["start_bounds"]) if isinstance(p["start"], dict) else p["start"]
    found = []
    for noise in p["noise"]:
        read = ENCODINGS[p["encoding"]](lam, -value_slope(p, x, lam, noise), p["sizes"])
        delta, gate = np.split(output(p["net"], x, *read), 2)
        omega = sigmoid(gate)
        lam = within(p, omega * lam + (1.0 - omega) * delta, p["low"], p["high"])
        found.append(lam)
    return lam if p["average"] == 1 else np.mean(found[-p["average"] :], 0)


def iterative(p: Mapping[str, Any], x: Array) -> Array:
    """The mode of the distribution that inference ends at."""
    return mode(p, inferred(p, x))


KINDS: Mapping[str, Callable[..., Array]] = {
    "sampler": best,
    "weighted": best,
    "exact": exact,
    "iterative": iterative,
}
