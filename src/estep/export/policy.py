"""A trained policy in NumPy alone. `estep export` wrote this file, with policy.npz and contract.json beside it.

    python policy.py policy.npz        reads an observation in each line of standard input (JSON), writes its action

In your program: `from policy import load`, then `policy = load("policy.npz")` and `action = policy.act(observation)`.
Where actions are drawn, `load("policy.npz", seed)` sets their random numbers.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

FORMAT = 1  # of the contract; a larger number is of a newer estep
Array: TypeAlias = Any
total: Callable[..., Array] = lambda x: x.sum(-1, keepdims=True)
length: Callable[..., Array] = lambda x, least: np.sqrt(total(np.square(x)) + np.float32(least))
sigmoid: Callable[..., Array] = lambda x: 0.5 * (1.0 + np.tanh(0.5 * x))
soft_bound: Callable[..., Array] = lambda x, low, up: low + np.logaddexp(up - np.logaddexp(up - x, 0.0) - low, 0.0)
"""x moved smoothly into [low, up]."""


def softmax(x: Array) -> Array:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / total(e)


LAYERS: Mapping[str, Callable[..., Array]] = {
    "linear": lambda x, weight, bias: x @ weight + bias,
    "relu": lambda x, zero=np.zeros((), np.float32): np.maximum(x, zero),  # each call would convert a number
    "elu": lambda x: np.where(x > 0.0, x, np.expm1(np.minimum(x, 0.0))),
    "silu": lambda x: x * sigmoid(x),
    "centre": lambda x: x - x.mean(-1, keepdims=True),
    "unit": lambda x, least: x / length(x, least),
    "softmax": softmax,
    "affine": lambda x, factor, shift: factor * x + shift,
    "block": lambda x, inner, keep, mix: keep * x + mix * run(inner, x),
}


def run(layers: Sequence[Any], x: Array) -> Array:
    """What layers make of x."""
    for kind, *given in layers:
        x = LAYERS[kind](x, *given)
    return x


def inputs(net: Mapping[str, Any], x: Array, more: Sequence[Array] = ()) -> Array:
    """What a network reads: the places of the state that it sees, and other vectors, [k] or [n, k]."""
    if net["sees"] is not None:
        x = x[net["sees"]] if len(net["sees"]) else np.ones(1, np.float32)
    return np.concatenate([np.broadcast_to(x, more[0].shape[:-1] + x.shape), *more], -1) if more else x


def output(net: Mapping[str, Any], x: Array, *more: Array) -> Array:
    """What a network gives. It may have outputs for each task, whose one-hot vector is at the end of the state."""
    y = run(net["layers"], inputs(net, x, more))
    return x[-net["tasks"] :] @ y.reshape(net["tasks"], -1) if net["tasks"] else y


def of_choices(lam: Array, *sizes: int) -> Array:
    """The most probable choice of each part, as one-hot vectors side by side."""
    each = zip(sizes, np.split(lam, list(accumulate(sizes))[:-1]), strict=True)
    return np.asarray(np.concatenate([np.arange(n) == one.argmax() for n, one in each]), np.float32)


def of_mixture(lam: Array, k: int, low: float, high: float) -> Array:
    """Of k Gaussians, the mean at which the density of all is greatest."""
    mu, raw = lam[k:].reshape(2, k, -1)
    log_sigma = soft_bound(raw, low, high)
    near = -0.5 * np.square((mu[:, None] - mu) * np.exp(-log_sigma)) - log_sigma
    return np.asarray(of_choices(np.logaddexp.reduce(lam[:k] + near.sum(-1), -1), k) @ mu)


def of_autoregressive(lam: Array, a: int) -> Array:
    """Each dimension at its mean given those before it."""
    bend, u = np.zeros((a, a), lam.dtype), lam[:a]
    bend[np.tril_indices(a, -1)] = lam[2 * a : 2 * a + a * (a - 1) // 2]
    for _ in range(a):
        u = lam[:a] + bend @ np.tanh(u)
    return u


MODES: Mapping[str, Callable[..., Array]] = {
    "gaussian": lambda lam, a: lam[:a],
    "choices": of_choices,
    "mixture": of_mixture,
    "autoregressive": of_autoregressive,
}
"""From the parameters λ of a distribution to the point u where it is greatest."""
mode: Callable[..., Array] = lambda p, lam: MODES[p["mode"][0]](lam, *p["mode"][1:])
direct: Callable[..., Array] = lambda p, x: mode(p, output(p["net"], x))
"""λ is what a network gives."""


def levels(p: Mapping[str, Any], x: Array) -> Array:
    """λ is what a network gives for the mean of a latent z, which another network gives."""
    return mode(p, output(p["net"], x, output(p["top"], x)[: p["latent"]]))


def product(p: Mapping[str, Any], shared: Array, own: Array) -> tuple[Array, Array]:
    """Mean and precision of the product of two Gaussians, one to a power."""
    (mu, raw), (mu_own, raw_own) = np.split(shared, 2), np.split(own, 2)
    weight = p["share"] * np.exp(-2.0 * soft_bound(raw, *p["shared_bounds"]))
    weight_own = np.exp(-2.0 * soft_bound(raw_own, *p["bounds"]))
    return (weight * mu + weight_own * mu_own) / (weight + weight_own), weight + weight_own


def columns(p: Mapping[str, Any], x: Array) -> Array:
    """The product of what all tasks share, to a power, and of what one task adds."""
    shared, own = output(p["shared"], x), output(p["net"], x)
    return mode(p, p["share"] * shared + own) if p["mode"][0] == "choices" else product(p, shared, own)[0]


KINDS = {"direct": direct, "levels": levels, "columns": columns}
CLIP: Callable[..., Array] = lambda u: np.clip(u, -1.0, 1.0)
SQUASH: Mapping[str, Callable[..., Array]] = {"tanh": lambda u: np.tanh(u), "clip": CLIP, "none": lambda u: u}


def bound(value: Any, arrays: Mapping[str, Array]) -> Any:
    """A program with its arrays in place of their names, which begin with #."""
    if isinstance(value, dict):
        return {name: bound(item, arrays) for name, item in value.items()}
    if isinstance(value, list):
        return [bound(item, arrays) for item in value]
    return arrays[value[1:]] if isinstance(value, str) and value.startswith("#") else value


class Policy:
    """Acts in one state at a time, by the deterministic action, or by one that is drawn: the contract says which."""

    def __init__(self, contract: Mapping[str, Any], arrays: Mapping[str, Array], seed: int | None = None) -> None:
        if contract["format"] > FORMAT:
            raise ValueError(f"The contract has the format {contract['format']}, and this file reads up to {FORMAT}.")
        self.contract, self.p = contract, bound(contract["program"], arrays)
        home, kind = f"{__package__}." if __package__ else "", self.p["kind"]
        drawn = not contract.get("deterministic", True)
        self.drawn = (np.random.default_rng(seed),) if drawn else ()
        more = ("drawn.drawing" if home else "drawing") if drawn else "" if kind in KINDS else "inference"
        table = importlib.import_module(home + more).KINDS if more else KINDS
        self.point, self.squash = table[kind], SQUASH[self.p["squash"]]

    def act(self, observation: Any, task: str = "") -> Any:
        """The action for one observation as the environment gives it (of a Dict space, a dict), or as flat numbers."""
        return self.native(self.action(self.flat(observation, task)))

    def action(self, x: Array) -> Array:
        """The action in [-1, 1], or one-hot vectors of choices, for the flat numbers of an observation."""
        if self.p["scale"] is not None:
            x = np.clip((x - self.p["mean"]) * self.p["scale"], -10.0, 10.0)
        return self.squash(self.point(self.p, x, *self.drawn))

    def flat(self, observation: Any, task: str = "") -> Array:
        """The numbers of an observation in the contract's order, with the one-hot vector of the task at the end."""
        spaces, found = self.contract["observation"], []
        for part in spaces["tasks"][task] if spaces["tasks"] else spaces["parts"]:
            value = observation
            for key in part["path"] if isinstance(observation, Mapping) else ():
                value = value[key]
            n = part["choices"]
            found.append(np.eye(n)[int(value) - part["first"]] if n else np.asarray(value, np.float32).reshape(-1))
            if part["path"] and not isinstance(observation, Mapping):
                break  # all numbers at once
        found.append([float(name == task) for name in spaces["tasks"]])
        return np.concatenate(found, dtype=np.float32, casting="same_kind")

    def native(self, action: Array) -> Any:
        """The action as the environment takes it."""
        space = self.contract["action"]
        if "low" in space:
            low, high = np.asarray(space["low"]), np.asarray(space["high"])
            x = (action * (high / 2 - low / 2) + (high / 2 + low / 2)).clip(low, high)
            return x.astype(space["dtype"]).reshape(space["shape"])
        sizes = space.get("nvec") or [space["n"]]
        index = [one.argmax() for one in np.split(action, list(accumulate(sizes))[:-1])]
        return (np.asarray(index) + space["start"]).astype(space["dtype"]).reshape(space.get("shape", ()))


def load(path: str | Path, seed: int | None = None) -> Policy:
    """The policy of policy.npz, with contract.json beside it. The seed is of drawn actions."""
    with np.load(path) as arrays:
        return Policy(json.loads(Path(path).with_name("contract.json").read_text("utf-8")), dict(arrays), seed)


if __name__ == "__main__":
    try:
        policy = load(sys.argv[1])
    except ValueError as error:
        print(error, file=sys.stderr)
        sys.exit(3)
    for line in sys.stdin:
        print(json.dumps(policy.act(json.loads(line), *sys.argv[2:]).tolist()), flush=True)
