"""Drawn actions in the operators of ONNX: the random numbers are a second input."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from estep.export.networks import refused
from estep.export.onnx_graph import Graph

NOISE = "noise"
NORMAL, GUMBEL = "standard normal", "Gumbel"


class Numbers:
    """The input of random numbers [batch, n], of which each draw takes its part."""

    def __init__(self, graph: Graph) -> None:
        """Nothing is taken yet.

        Args:
            graph: the graph that is being built.
        """
        self._graph = graph
        self.laws: list[tuple[str, int]] = []
        """The law of the numbers and how many of them, in order."""

    @property
    def size(self) -> int:
        """How many numbers an observation needs."""
        return sum(count for _, count in self.laws)

    def take(self, law: str, count: int) -> str:
        """The next numbers."""
        begin = self.size
        self.laws.append((law, count))
        return self._graph.sliced(NOISE, begin, begin + count)


def point(graph: Graph, p: Mapping[str, Any], x: str, size: int) -> tuple[str, Numbers]:
    """The drawn point u, of choices their scores with noise; and the random numbers.

    Args:
        graph: the graph that is being built.
        p: the program.
        x: the state [b, size].
        size: its size.

    Raises:
        UsageError: the distribution has no graph.
    """
    numbers, (name, *sizes) = Numbers(graph), p["family"]
    if p["kind"] == "columns" and name == "choices":
        return _noisy(graph, graph.columns(p, x, size, sum(sizes)), numbers, sizes), numbers
    if p["kind"] not in ("direct", "levels") or name not in ("gaussian", "choices"):
        raise refused(f"Drawn actions of this policy ({p['kind']}, {name}) have no graph of ONNX.")
    more = []
    if p["kind"] == "levels":
        more = [_gaussian(graph, graph.network(p["top"], x, size), numbers, p["latent"], p["top_bounds"])]
    lam = graph.network(p["net"], x, size, *more)
    if name == "choices":
        return _noisy(graph, lam, numbers, sizes), numbers
    return _gaussian(graph, lam, numbers, *sizes), numbers


def _noisy(graph: Graph, scores: str, numbers: Numbers, sizes: list[int]) -> str:
    return graph.node("Add", scores, numbers.take(GUMBEL, sum(sizes)))


def _gaussian(graph: Graph, lam: str, numbers: Numbers, a: int, bounds: list[float]) -> str:
    sigma = graph.node("Exp", graph.soft_bound(graph.sliced(lam, a, 2 * a), *bounds))
    noise = graph.node("Mul", sigma, numbers.take(NORMAL, a))
    return graph.node("Add", graph.sliced(lam, 0, a), noise)
