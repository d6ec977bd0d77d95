"""The formulas that must hold at the edge of float32, each with its true value and gradient in float64."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from estep.core.optim import global_norm, scale_to, shortened
from estep.core.types import Identity, Tanh, log_one_minus_tanh_squared
from estep.families.gaussian import Normal, gaussian_kl
from estep.families.particles import ess, exponential
from estep.families.uniform import Improper
from estep.inference.iterative import log_sign
from estep.likelihoods.dynamics import Output, gaussian_nll
from estep.likelihoods.losses import Squared
from estep.likelihoods.q_function import biased_std
from estep.likelihoods.returns import Segment, one_step, trace_coefficient
from estep.m_steps.temperature import KLConstraint
from estep.nets import soft_bound
from estep.population.moments import count, nothing, scaling


class Case(NamedTuple):
    """A formula, where it is tried, and what it should be there."""

    id: str
    what: str
    function: Callable[[Any], Any]
    """From one point [k] to a number."""
    points: np.ndarray
    """[n, k], in float32."""
    value: Callable[[np.ndarray], np.ndarray]
    """The true values [n] at points [n, k] in float64."""
    slope: Callable[[np.ndarray], np.ndarray] | None
    """The true gradients [n, k], or None where the formula has none."""
    tolerance: tuple[float, float]
    """Relative and absolute error of a value."""
    slope_tolerance: tuple[float, float] = (1e-5, 1e-6)
    differentiated: bool = True
    """Whether anything differentiates the formula."""


def column(*parts):
    """Points of one number."""
    return np.concatenate([np.ravel(part) for part in parts]).astype(np.float32)[:, None]


def grid(*axes):
    """All combinations of numbers."""
    return np.stack([np.ravel(axis) for axis in np.meshgrid(*axes, indexing="ij")], 1).astype(np.float32)


HUGE = np.concatenate([-np.logspace(30, -12, 22), np.logspace(-12, 30, 22)])
NEAR = np.linspace(-20, 20, 41)


def log_det(x):
    size = np.abs(x[:, 0])
    with np.errstate(over="ignore"):
        small = -np.log1p(np.sinh(np.minimum(size, 5)) ** 2)
    return np.where(size < 1, small, 2 * (np.log(2) - size - np.log1p(np.exp(-2 * size))))


def nearest(x):
    """Where `Tanh.inverse` clips to."""
    return np.clip(x, -1 + 1e-6, 1 - 1e-6)


def own_density(x):
    """The density of a draw, from its noise: the only draw has the noise 2."""
    q = Normal(x[:1], x[1:], lambda key, n, a: jnp.full((n, a), 2.0))
    return q.draw(jax.random.key(0), 1, Improper(Identity(), 1)).log_ratio[0]


def kl(x):
    one = lambda mu, log_sigma: Normal(mu[None], log_sigma[None])
    return gaussian_kl(one(x[0], x[1]), one(jnp.zeros_like(x[0]), jnp.zeros_like(x[1])))


def soft(x, low=-10.0, high=2.0):
    upper = high - np.logaddexp(0, high - x)
    return low + np.logaddexp(0, upper - low)


def soft_slope(x, low=-10.0, high=2.0):
    upper = high - np.logaddexp(0, high - x)
    return np.exp(-np.logaddexp(0, x - high) - np.logaddexp(0, low - upper))


def dual(x):
    """The gradient of MPO's dual: the KL of weights e^{Q/η} from equal ones, of Q = (0, s) + b."""
    log_weight = exponential(jnp.stack([x[0], x[0] + x[1]]), x[2])
    weight = jnp.exp(log_weight)
    return (weight * log_weight).sum() + jnp.log(2.0)


def true_dual(x):
    spread = (np.float32(x[:, 0] + x[:, 1]).astype(np.float64) - x[:, 0]) / x[:, 2]
    log_weight = np.stack([-np.logaddexp(0, spread), -np.logaddexp(0, -spread)])
    weight = np.exp(log_weight)
    return np.where(weight > 0, weight * log_weight, 0).sum(0) + np.log(2)


def two_weights(x):
    return ess(jnp.stack([jnp.zeros_like(x[0]), x[0]]))


def true_two_weights(x):
    other = np.exp(-np.abs(x[:, 0]))
    return (1 + other) ** 2 / (1 + other**2)


def two_weights_slope(x):
    other = np.exp(-np.abs(x[:, 0]))
    slope = 2 * (1 + other) * (1 - other) / (1 + other**2) ** 2 * other
    return (-np.sign(x[:, 0]) * slope)[:, None]


def nll(x):
    return gaussian_nll(Output(x[None, :1], x[None, 1:], x[:1]), jnp.zeros((1, 1)))


def true_nll(x):
    return 0.5 * (x[:, 0] ** 2 * np.exp(-x[:, 1]) + x[:, 1]) + 0.5 * np.log(2 * np.pi)


def nll_slope(x):
    shrink = np.exp(-x[:, 1])
    return np.stack([x[:, 0] * shrink, 0.5 - 0.5 * x[:, 0] ** 2 * shrink], 1)


def encoded(x):
    return log_sign(jnp.zeros(1), x, (1,))[1].sum()


def target(x):
    """A target of one step, γ = 0.99, and the squared error of Q̂ = 0 from it, which the critic minimises."""
    segment = Segment(x[:1], jnp.ones(1), jnp.zeros(1))
    return one_step(segment, x[1:], 0.99)[0]


def moments(x):
    """The standardised last number of a hundred that alternate around a mean."""
    rows = x[0] + x[1] * jnp.where(jnp.arange(100) % 2 == 0, 1.0, -1.0)
    mean, scale = scaling(count(nothing(1), rows[:, None]))
    return ((rows[-1] - mean) * scale)[0]


def error(x):
    return Squared().loss(x[:1], x[1])


def clipped(x):
    return scale_to(x, global_norm(x), 1.0)[0]


def true_clipped(x):
    return x[:, 0] / np.maximum(1.0, np.sqrt(np.square(x).sum(1)))


def odd(x):
    """A gradient whose usual size is 1, as Adam's mean of it tells."""
    old = jnp.zeros(1), jnp.ones(1)
    new = 0.1 * x, 0.999 + 0.001 * jnp.square(x)
    return shortened(old, new, x, (0.9, 0.999), (jnp.ones(()), jnp.asarray(True)))[0][0] / 0.1


ones = lambda x: np.ones_like(x)
CASES = [
    Case(
        "N01",
        "log(1 - tanh² u)",
        lambda x: log_one_minus_tanh_squared(x[0]),
        column(HUGE, NEAR),
        log_det,
        lambda x: -2 * np.tanh(x),
        (5e-7, 1e-37),
        (0, 1e-6),
    ),
    Case(
        "N02",
        "tanh⁻¹ a, of actions that others took",
        lambda x: Tanh().inverse(x)[0][0],
        column(np.linspace(-1, 1, 41), [1 - 6e-8, 6e-8 - 1, 1e-30, 0.999]),
        lambda x: np.arctanh(nearest(x))[:, 0],
        None,
        (2e-2, 1e-6),
    ),
    Case(
        "N03",
        "log q of an own sample, from its noise",
        own_density,
        grid([-1e6, -1, 0, 3, 1e6], np.linspace(-20, 5, 11)),
        lambda x: -2.0 - x[:, 1] - 0.5 * np.log(2 * np.pi),
        lambda x: np.array([0.0, -1.0]) + 0 * x,
        (3e-7, 1e-6),
    ),
    Case(
        "N04",
        "bound of log σ",
        lambda x: soft_bound(x[0], jnp.asarray(-10.0), jnp.asarray(2.0)),
        column(HUGE, NEAR),
        lambda x: soft(x)[:, 0],
        soft_slope,
        (1e-6, 2e-6),
        (1e-4, 1e-6),
    ),
    Case(
        "N05",
        "loss of α, α (ε - KL)",
        lambda x: KLConstraint(x[0], 1.0).loss(x[1:])[0],
        grid(np.linspace(-15, 10, 6), HUGE[::4]),
        lambda x: np.exp(x[:, 0]) * (1 - x[:, 1]),
        lambda x: np.exp(x[:, :1]) * np.stack([1 - x[:, 1], -np.ones(len(x))], 1),
        (2e-6, 1e-30),
        (2e-6, 1e-30),
    ),
    Case(
        "N06",
        "KL of two Gaussians, of log σ",
        kl,
        grid([0.0], [0, *np.logspace(-6, 1, 15), *-np.logspace(-6, 1, 15)]),
        lambda x: (np.expm1(2 * x[:, 1]) - 2 * x[:, 1]) / 2,
        lambda x: np.stack([0 * x[:, 1], np.expm1(2 * x[:, 1])], 1),
        (2e-5, 1e-37),
        (1e-5, 1e-30),
    ),
    Case(
        "N07",
        "KL of two Gaussians, of the mean",
        kl,
        grid(np.logspace(-6, 9, 16), [0.0]),
        lambda x: x[:, 0] ** 2 / 2,
        lambda x: x * np.array([1.0, 0.0]),
        (1e-6, 1e-37),
        (1e-6, 1e-30),
    ),
    Case(
        "N08",
        "gradient of MPO's dual, ε - KL",
        dual,
        grid([-1e6, 0, 1e4], [1e-6, 1e-2, 1, 1e4], [1e-8, 1e-4, 1, 1e6]),
        true_dual,
        None,
        (1e-5, 1e-5),
    ),
    Case(
        "N10",
        "trace coefficient",
        lambda x: trace_coefficient(x, 0.9)[0],
        column(HUGE[HUGE != 0]),
        lambda x: 0.9 * np.exp(np.minimum(x[:, 0], 0)),
        lambda x: np.where(x < 0, 0.9 * np.exp(np.minimum(x, 0)), 0.0),
        (1e-6, 1e-37),
        (1e-6, 1e-37),
    ),
    Case(
        "N11",
        "effective sample size",
        two_weights,
        column(-np.logspace(-3, 30, 34), np.logspace(-3, 30, 34)),
        true_two_weights,
        two_weights_slope,
        (1e-5, 1e-6),
        (1e-3, 1e-5),
    ),
    Case(
        "N13",
        "likelihood of a Gaussian model",
        nll,
        grid([0, 1e-3, 1, 1e4], np.linspace(-10, 10, 9)),
        true_nll,
        nll_slope,
        (2e-6, 1e-5),
        (2e-6, 1e-5),
    ),
    Case(
        "N14",
        "spread of an ensemble",
        biased_std,
        np.stack([HUGE, 0 * HUGE], 1).astype(np.float32)[np.abs(HUGE) > 1],
        lambda x: np.abs(x[:, 0]) / 2,
        lambda x: np.sign(x[:, :1]) * np.array([0.5, -0.5]),
        (1e-5, 1.1e-3),
        (1e-4, 1e-3),
    ),
    Case(
        "N15",
        "encoding of a gradient, log(1 + 10 g)",
        encoded,
        column(HUGE),
        lambda x: np.sign(x[:, 0]) * np.log1p(10 * np.abs(x[:, 0])),
        None,
        (2e-5, 1e-6),
    ),
    Case(
        "N16",
        "standardised observation",
        moments,
        grid([0, 1, 1e4, 1e6], [1, 1e2, 1e4]),
        lambda x: -np.ones(len(x)),
        None,
        (2e-2, 1e-3),
    ),
    Case(
        "N17",
        "gradient of norm at most 1",
        clipped,
        np.stack([HUGE, HUGE[::-1]], 1).astype(np.float32),
        true_clipped,
        None,
        (1e-5, 1e-30),
        differentiated=False,
    ),
    Case(
        "N18",
        "target r + γ V",
        target,
        grid([-1e38, -1e20, 0, 1, 1e6, 1e38], [-1e38, 0, 1, 1e20]),
        lambda x: x[:, 0] + 0.99 * x[:, 1],
        lambda x: np.array([1.0, 0.99]) + 0 * x,
        (1e-5, 1e-30),
    ),
    Case(
        "N18",
        "squared error of the critic",
        error,
        grid([-1e18, -1e6, 0.5, 3], [1e18, 1e6, 1]),
        lambda x: 0.5 * (x[:, 0] - x[:, 1]) ** 2,
        None,
        (1e-6, 1e-30),
    ),
    Case(
        "N24",
        "gradient in Adam's mean",
        odd,
        column(HUGE[np.abs(HUGE) < 1e6]),
        lambda x: np.clip(x[:, 0], -100, 100),
        None,
        (1e-6, 1e-37),
        differentiated=False,
    ),
]
ELSEWHERE = {
    "N09": "the multiplier is e^ℓ with ℓ in [-15, 10], so there is no inverse; N05 has its gradient",
    "N12": "resampling counts particles, without a gradient: tests/test_smc.py",
    "N19": "no number has 16 bits: tests/test_numerics.py",
    "N20": "actions are scaled on the host, in NumPy: tests/envs/test_gymnasium_env.py",
    "N21": "planning chooses particles, without a gradient: tests/test_plans.py",
    "N22": "there is no replay by priority",
    "N23": "replay checks its rows on the host, in NumPy: tests/data/test_replay.py",
}
"""What has no gradient, or is not computed in JAX."""


def eagerly(function):
    """A function of one point that runs operation by operation, for all points."""

    def each(points):
        with jax.disable_jit():
            return jax.tree.map(lambda *parts: np.stack(parts), *[function(point) for point in points])

    return each


def one_by_one(function):
    compiled = jax.jit(function)
    return lambda points: jax.tree.map(lambda *parts: np.stack(parts), *[compiled(point) for point in points])


MODES = {"eagerly": eagerly, "jit": one_by_one, "vmap": lambda function: jax.jit(jax.vmap(function))}


def worst(found, true, tolerance):
    """The largest error as a part of what is allowed, and whether all is finite."""
    relative, absolute = tolerance
    found = np.asarray(found, np.float64)
    return float((np.abs(found - true) / (relative * np.abs(true) + absolute)).max()), bool(np.isfinite(found).all())


def errors(case, mode):
    """The largest errors of value and gradient of a case, each as a part of what is allowed; the gradient's is None
    where only that it is finite is asked."""
    points = case.points[:: max(1, len(case.points) // 8)] if mode == "eagerly" else case.points
    exact = points.astype(np.float64)
    both = jax.value_and_grad(case.function) if case.differentiated else lambda x: (case.function(x), jnp.zeros(()))
    value, slope = MODES[mode](both)(jnp.asarray(points))
    of_value, finite = worst(value, case.value(exact), case.tolerance)
    assert finite, f"{case.id}, {case.what}: a value is not finite"
    assert np.isfinite(slope).all(), f"{case.id}, {case.what}: a gradient is not finite"
    if case.slope is None:
        return of_value, None
    return of_value, worst(slope, case.slope(exact), case.slope_tolerance)[0]
