"""Matrix products of an update: how many of which shape, and how fast this machine does each.

A product (m, k, n) multiplies [m, k] by [k, n]: 2 m k n floating point operations. B is the batch, o, a and l the sizes
of the observation, the action and λ = (μ, log σ), so l = 2a; h hidden units in both layers; K critics; S draws.

evaluation of the critics, S draws: the state's product once, the others for each draw
    K x [(B,o,h) (BS,a,h) (BS,h,h) (BS,h,1)]
its gradient to the action:    K x [(BS,1,h) (BS,h,h) (BS,h,a)]
fit of the critics:            forward as an evaluation of B stored actions; backward
    K x [(B,1,h) (B,h,h)] to the layers, K x [(h,B,1) (h,B,h) (o,B,h) (a,B,h)] to the weights

direct:     policy at s forward and backward, at s' forward: (B,o,h) (B,h,h) (B,h,l); backward (B,l,h) (B,h,h) and
            (h,B,l) (h,B,h) (o,B,h)
            critics evaluated at s with their gradient, slow critics at s', fit
iterative:  N times at s and N' times at s' an evaluation with its gradient, and the inference network forward:
            (B,o,h) 2(B,l,h) (B,h,h) (B,h,2l); at s its backward too: (B,2l,h) (B,h,h) and
            (h,B,2l) (h,B,h) (o,B,h) 2(l,B,h), none to its inputs, where the gradient stops
            one more evaluation with its gradient at s: the final climb; slow critics at s'; fit
            what depends on s alone, (B,o,h) of each critic and of the network, once for all N: differentiating the
            loop takes it out; at s' it stays in
        what is trained at s has the rows of `part` for B; a direct start adds its network at s and s', and at s the
            backward pass

Everything else (noise, densities, Adam, the slow copy) is not counted. `traced` counts the same from the program.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from estep.algorithms import SAC, IterativeSAC

Product = tuple[int, int, int]
Products = Counter[Product]


def times(n: int, products: Products) -> Products:
    """Each product n times."""
    return Counter({product: n * count for product, count in products.items()})


class Sizes:
    """The products of the parts of an update."""

    def __init__(self, batch: int, observation: int, action: int, hidden: int, critics: int) -> None:
        self.b, self.o, self.a, self.h, self.critics = batch, observation, action, hidden, critics

    def evaluation(self, draws: int) -> Products:
        """Every critic at draws of the action."""
        b, o, a, h = self.b, self.o, self.a, self.h
        one = Counter([(b, o, h), (b * draws, a, h), (b * draws, h, h), (b * draws, h, 1)])
        return times(self.critics, one)

    def action_gradient(self, draws: int) -> Products:
        """Its gradient to the action."""
        rows, a, h = self.b * draws, self.a, self.h
        return times(self.critics, Counter([(rows, 1, h), (rows, h, h), (rows, h, a)]))

    def fit(self) -> Products:
        """Critics forward and backward on stored actions."""
        b, o, a, h = self.b, self.o, self.a, self.h
        backward = Counter([(b, 1, h), (b, h, h), (h, b, 1), (h, b, h), (o, b, h), (a, b, h)])
        return self.evaluation(1) + times(self.critics, backward)

    def net(self, inputs: list[int], output: int) -> Products:
        """The policy or inference network forward."""
        b, h = self.b, self.h
        return Counter([*((b, size, h) for size in inputs), (b, h, h), (b, h, output)])

    def net_backward(self, inputs: list[int], output: int) -> Products:
        """Its gradient to the weights alone."""
        b, h = self.b, self.h
        return Counter([(b, output, h), (b, h, h), (h, b, output), (h, b, h), *((size, b, h) for size in inputs)])

    def climb(self, draws: int) -> Products:
        """Objective and gradient to λ."""
        return self.evaluation(draws) + self.action_gradient(draws)

    def direct(self) -> Products:
        """One update of SAC."""
        net = [self.o], 2 * self.a
        return times(2, self.net(*net)) + self.net_backward(*net) + self.climb(1) + self.evaluation(1) + self.fit()

    def climbed(self, steps: int, draws: int, start: bool) -> Products:
        """The E-step of iterative inference: what is trained at s."""
        net = [self.o, 2 * self.a, 2 * self.a], 4 * self.a
        found = times(steps, self.climb(draws) + self.net(*net) + self.net_backward(*net)) + self.climb(draws)
        found[self.b, self.o, self.h] -= (steps - 1) * (self.critics + 1)
        head = [self.o], 2 * self.a
        return found + (self.net(*head) + self.net_backward(*head) if start else Counter())

    def followed(self, steps: int, draws: int, start: bool) -> Products:
        """Iterative inference at s' and the critic that learns from it."""
        found = times(steps, self.climb(draws) + self.net([self.o, 2 * self.a, 2 * self.a], 4 * self.a))
        found += self.net([self.o], 2 * self.a) if start else Counter()
        return found + self.evaluation(draws) + self.fit()


def of(row: SAC | IterativeSAC, batch: int, observation: int, action: int) -> Products:
    """The products of one update of a row whose hidden layers are two of one size."""
    from estep.algorithms import SAC

    (hidden,) = set(row.hidden)
    sizes = Sizes(batch, observation, action, hidden, row.critics)
    if isinstance(row, SAC):
        return sizes.direct()
    trained = Sizes(max(1, round(row.part * batch)), observation, action, hidden, row.critics)
    target = row.target_iterations or row.iterations, row.target_samples or row.samples
    climbed = trained.climbed(row.iterations, row.samples, row.direct_start)
    return climbed + sizes.followed(*target, row.direct_start)


def flop(products: Products) -> int:
    """Floating point operations."""
    return sum(2 * m * k * n * count for (m, k, n), count in products.items())


def traced(jaxpr: Any) -> int:
    """As `flop`, of every product in a traced program, loops unrolled; among them a few dot products of vectors."""
    return sum(_operations(equation) for equation in jaxpr.eqns)


def _operations(equation: Any) -> int:
    if equation.primitive.name == "dot_general":
        (contracted, _), _ = equation.params["dimension_numbers"]
        depth = math.prod(equation.invars[0].aval.shape[axis] for axis in contracted)
        return 2 * depth * math.prod(equation.outvars[0].aval.shape)
    loops = equation.params["length"] if equation.primitive.name == "scan" else 1
    return loops * sum(traced(inner) for inner in _inner(equation.params))


def _inner(params: dict[str, Any]) -> Iterator[Any]:
    for value in params.values():
        for item in value if isinstance(value, tuple | list) else (value,):
            if hasattr(item, "eqns"):
                yield item
            elif hasattr(getattr(item, "jaxpr", None), "eqns"):
                yield item.jaxpr


def product_work(product: Product) -> Callable[[], int]:
    """A blocking call that does a product some hundred times in one program and returns how often.

    Each product depends on the one before by a single element, and each result is carried out of the loop: XLA can
    neither hoist nor drop it.
    """
    import jax
    import jax.numpy as jnp

    m, k, n = product
    count = max(10, min(1_000, round(2e9 / (2 * m * k * n))))
    left, right = jnp.ones((m, k)), jnp.full((k, n), 1e-3)

    @jax.jit
    def many(left: jax.Array, right: jax.Array) -> jax.Array:
        def one(i: jax.Array, carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            x = carry[0].at[0, 0].add(1e-30 * carry[1][0, 0])
            return x, x @ right

        return jax.lax.fori_loop(0, count, one, (left, jnp.zeros((m, n))))[1]

    def work() -> int:
        many(left, right).block_until_ready()
        return count

    return work
