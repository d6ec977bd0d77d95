"""The graph of a policy that acts by one pass of networks, in the operators of ONNX."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
OPSET = 18
"""The version of the operators: of 2022, so that older runtimes read it too."""


class Graph:
    """Nodes and constants of a graph that is being built. Values are known by their names."""

    def __init__(self, onnx: Any) -> None:
        """Begin an empty graph.

        Args:
            onnx: the package, which is an extra.
        """
        self._onnx = onnx
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, value: Any, dtype: Any = np.float32) -> str:
        """The name of a constant."""
        name = f"c{len(self.constants)}"
        self.constants.append(self._onnx.numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def node(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """The name of what an operator makes of its inputs."""
        name = f"n{len(self.nodes)}"
        self.nodes.append(self._onnx.helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def ints(self, *values: int) -> str:
        """The name of a constant of integers."""
        return self.constant(values, np.int64)

    def sliced(self, x: str, begin: int, end: int) -> str:
        """The numbers begin to end of the last axis."""
        return self.node("Slice", x, self.ints(begin), self.ints(end), self.ints(-1))

    def shaped(self, x: str, *shape: int) -> str:
        """The value in another shape."""
        return self.node("Reshape", x, self.ints(*shape))

    def layers(self, layers: Sequence[Any], x: str) -> str:
        """What layers of `export.policy` make of x [b, n]."""
        for kind, *given in layers:
            x = self._layer(kind, given, x)
        return x

    def _layer(self, kind: str, given: Sequence[Any], x: str) -> str:
        if kind == "linear":
            return self._plus(self.node("MatMul", x, self.constant(given[0])), given[1])
        if kind == "affine":
            return self._plus(self.node("Mul", x, self.constant(given[0])), given[1])
        if kind == "silu":
            return self.node("Mul", x, self.node("Sigmoid", x))
        if kind == "centre":
            return self.node("Sub", x, self.node("ReduceMean", x, self.ints(-1)))
        if kind == "unit":
            square = self.node("ReduceSumSquare", x, self.ints(-1))
            return self.node("Div", x, self.node("Sqrt", self.node("Add", square, self.constant(given[0]))))
        if kind == "block":
            new = self.node("Mul", self.layers(given[0], x), self.constant(given[2]))
            return self.node("Add", self.node("Mul", x, self.constant(given[1])), new)
        return self.node({"relu": "Relu", "elu": "Elu", "softmax": "Softmax"}[kind], x)

    def _plus(self, x: str, shift: Any) -> str:
        return self.node("Add", x, self.constant(shift)) if np.any(shift) else x

    def network(self, net: Any, x: str, size: int, *more: str) -> str:
        """What a network of `export.policy` gives for a state x [b, size] and other vectors."""
        seen = x
        if net["sees"] is not None and len(net["sees"]):
            seen = self.node("Gather", x, self.constant(net["sees"], np.int64), axis=1)
        elif net["sees"] is not None:  # nothing but the number 1
            nought = self.node("Mul", self.sliced(x, 0, 1), self.constant(0.0))
            seen = self.node("Add", nought, self.constant(1.0))
        y = self.layers(net["layers"], self.node("Concat", seen, *more, axis=1) if more else seen)
        if not net["tasks"]:
            return y
        each = self.shaped(y, 0, net["tasks"], -1)
        task = self.shaped(self.sliced(x, size - net["tasks"], size), 0, net["tasks"], 1)
        return self.node("ReduceSum", self.node("Mul", each, task), self.ints(1), keepdims=0)

    def soft_bound(self, x: str, low: float, high: float) -> str:
        """x moved smoothly into [low, high]."""
        below = self.node("Sub", self.constant(high), self.node("Softplus", self.node("Sub", self.constant(high), x)))
        return self.node("Add", self.node("Softplus", self.node("Sub", below, self.constant(low))), self.constant(low))

    def mode(self, mode: Sequence[Any], lam: str, size: int) -> str:
        """The point u of a distribution from its λ: its mode; of choices λ itself, of which the largest counts.

        Args:
            mode: as a program has it.
            lam: λ.
            size: the size of u.
        """
        kind = mode[0]
        if kind == "choices":
            return lam
        if kind == "autoregressive":
            return self._autoregressive(lam, size)
        return self._mixture(lam, size, *mode[1:]) if kind == "mixture" else self.sliced(lam, 0, size)

    def _mixture(self, lam: str, a: int, k: int, low: float, high: float) -> str:
        mu = self.shaped(self.sliced(lam, k, k + k * a), 0, k, a)
        log_sigma = self.soft_bound(self.sliced(lam, k + k * a, k + 2 * k * a), low, high)
        log_sigma = self.shaped(log_sigma, 0, 1, k, a)
        apart = self.node("Sub", self.shaped(mu, 0, k, 1, a), self.shaped(mu, 0, 1, k, a))
        noise = self.node("Mul", apart, self.node("Exp", self.node("Neg", log_sigma)))
        squares = self.node("Mul", self.node("Mul", noise, noise), self.constant(-0.5))
        near = self.node("ReduceSum", self.node("Sub", squares, log_sigma), self.ints(3), keepdims=0)
        total = self.node("Add", near, self.shaped(self.sliced(lam, 0, k), 0, 1, k))
        density = self.node("ReduceLogSumExp", total, self.ints(2), keepdims=0)
        best = self.node("ArgMax", density, axis=1, keepdims=0)
        chosen = self.node("OneHot", best, self.ints(k), self.constant([0.0, 1.0]))
        return self.node("ReduceSum", self.node("Mul", mu, self.shaped(chosen, 0, k, 1)), self.ints(1), keepdims=0)

    def _autoregressive(self, lam: str, a: int) -> str:
        count = a * (a - 1) // 2
        mu = u = self.sliced(lam, 0, a)
        if not count:
            return mu
        place = np.zeros((count, a * a))
        place[np.arange(count), np.ravel_multi_index(np.tril_indices(a, -1), (a, a))] = 1.0
        entries = self.sliced(lam, 2 * a, 2 * a + count)
        bend = self.shaped(self.node("MatMul", entries, self.constant(place)), 0, a, a)
        for _ in range(a - 1):
            bent = self.node("MatMul", bend, self.shaped(self.node("Tanh", u), 0, a, 1))
            u = self.node("Add", mu, self.shaped(bent, 0, a))
        return u

    def columns(self, p: Any, x: str, size: int, action: int) -> str:
        """The product of what all tasks share, to a power, and of what one task adds."""
        shared, own = self.network(p["shared"], x, size), self.network(p["net"], x, size)
        if p["mode"][0] == "choices":
            return self.node("Add", self.node("Mul", shared, self.constant(p["share"])), own)
        weights, means = [], []
        for lam, bounds, share in ((shared, p["shared_bounds"], p["share"]), (own, p["bounds"], 1.0)):
            log_sigma = self.soft_bound(self.sliced(lam, action, 2 * action), *bounds)
            precision = self.node("Exp", self.node("Mul", log_sigma, self.constant(-2.0)))
            weights.append(self.node("Mul", precision, self.constant(share)))
            means.append(self.node("Mul", weights[-1], self.sliced(lam, 0, action)))
        return self.node("Div", self.node("Add", *means), self.node("Add", *weights))

    def choices(self, scores: str, factors: Sequence[int], start: Any) -> str:
        """The integers of the choices of greatest score [b, k]."""
        ends = [0, *accumulate(factors)]
        best = [
            self.node("ArgMax", self.sliced(scores, begin, end), axis=1, keepdims=1) for begin, end in pairwise(ends)
        ]
        index = best[0] if len(best) == 1 else self.node("Concat", *best, axis=1)
        return self.node("Add", index, self.constant(np.asarray(start).reshape(-1), np.int64))
