"""Every optimiser on the same problem: the conjugate bandit (O4), whose optimum is known."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from estep.core.em import apply_pending
from estep.core.keys import make_key
from estep.core.learned import fixed
from estep.core.objective import soft_value
from estep.core.optim import adam
from estep.core.slots import Likelihood, Problem
from estep.e_steps.climb import climb_each_state
from estep.errors import UsageError
from estep.families.autoregressive import Autoregressive
from estep.families.full_gaussian import FullGaussian, FullNormal, full_kl
from estep.families.gaussian import Gaussian
from estep.families.mixture import Mixture
from estep.families.noise import antithetic
from estep.families.particles import Boltzmann, ess
from estep.inference.cem import CEM, by_value
from estep.inference.closed_form import ClosedForm
from estep.inference.direct import Direct
from estep.inference.gradient import GradientAscent, semi_amortised, sgd
from estep.inference.importance import Importance, from_prior
from estep.inference.iterative import Iterations, iterative
from estep.inference.starts import At, Restarts, Scattered, clip, distinct_modes, starting
from estep.m_steps.temperature import Constant
from estep.nets import mlp
from estep.priors.gaussian import FixedGaussian
from oracles import rows

A, ALPHA = 4, 0.2
M, V = np.zeros(A), np.ones(A)
B, C = np.array([1.2, -0.8, 0.3, -1.5]), np.array([0.6, 1.0, 1.6, 0.8])


class Quadratic(Likelihood):
    """Q = -Σ (a - b)²/2c."""

    b: jax.Array
    c: jax.Array

    def __call__(self, problem, action, key):
        return -(jnp.square(action - self.b) / (2 * self.c)).sum()

    def loss(self, batch, bootstrap, key):
        return jnp.zeros(()), {}


def as32(x):
    return jnp.asarray(x, jnp.float32)


def bandit():
    prior = FixedGaussian(as32(M), as32(np.sqrt(V)))
    return Problem(jnp.ones(3), prior, Quadratic(as32(B), as32(C)), as32(ALPHA))


PRECISION = 1 / V + 1 / (ALPHA * C)
MEAN = (M / V + B / (ALPHA * C)) / PRECISION
EVIDENCE = (-0.5 * ALPHA * np.log1p(V / (ALPHA * C)) - (M - B) ** 2 / (2 * (C + V / ALPHA))).sum()
"""α log Z."""


def gap(posterior, lam):
    """α KL(q‖posterior), in closed form."""
    q, none = posterior(lam), jnp.zeros((A, A))
    full = q if isinstance(q, FullNormal) else FullNormal(q.mu, q.log_sigma, none)
    return ALPHA * float(full_kl(full, FullNormal(as32(MEAN), as32(-0.5 * np.log(PRECISION)), none)))


def infer(inference, posterior, key=0):
    """What the optimiser finds on the bandit."""
    return rows.compiled(lambda key: inference(bandit(), posterior, key))(make_key(key))


OPTIMISERS = {
    "adam": GradientAscent(300, 10, adam(3e-2)),
    "sgd": GradientAscent(200, 10, sgd(5e-2)),
    "cem": CEM(population=400),
    "importance": Importance(2000, 5),
    "importance-prior": Importance(20_000, 1, from_prior),
    "restarts": Restarts(GradientAscent(200, 10, adam(5e-2)), 3),
}
FAMILIES = {"gaussian": Gaussian(A, antithetic), "full": FullGaussian(A, antithetic)}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", OPTIMISERS)
def test_every_optimiser_reaches_the_optimum(name, family):
    posterior = FAMILIES[family]
    start = gap(posterior, posterior.start(bandit().prior(jnp.ones(3))))
    inferred = infer(OPTIMISERS[name], posterior)
    assert start > 2.0
    assert gap(posterior, inferred.lam) < 0.02
    if name not in ("restarts", "importance-prior"):  # both V's are estimates
        np.testing.assert_allclose(inferred.values[0], EVIDENCE - start, rtol=0.2)
    if len(inferred.values) > 20:
        np.testing.assert_allclose(inferred.values[-20:].mean(), EVIDENCE, atol=0.1)


def test_ranking_by_value_alone_forgets_the_temperature():
    soft, hard = (infer(optimiser, FAMILIES["gaussian"]).lam for optimiser in (CEM(), CEM(ranking=by_value)))
    assert gap(FAMILIES["gaussian"], soft) < 0.02
    assert gap(FAMILIES["gaussian"], hard) > 4.0
    np.testing.assert_allclose(hard[:A], B, atol=0.05)  # the best action, whatever the prior
    assert (hard[A:] < np.log(0.02)).all()
    np.testing.assert_allclose(np.exp(-2 * np.asarray(soft[A:])), PRECISION, rtol=0.25)


def test_little_damping_stalls():
    gaps = [gap(FAMILIES["gaussian"], infer(CEM(smoothing=kept), FAMILIES["gaussian"]).lam) for kept in (0.9, 0.01)]
    assert gaps[1] > 3 * gaps[0]


def test_cem_refuses_what_it_cannot_do():
    for family in (Mixture(A, 2), Autoregressive(A)):
        for optimiser in (CEM(2, 20), Importance(20)):
            with pytest.raises(UsageError, match=f"{type(family).__name__} has no closed form"):
                optimiser(bandit(), family, make_key(0))
    for kept in (0.0, 0.005, 1.1):
        with pytest.raises(UsageError, match="of 100 draws keeps"):
            CEM(elite=kept)


class Ragged(Quadratic):
    """A critic that is not a number on half of the space, and has no gradient."""

    def __call__(self, problem, action, key):
        value = -(jnp.square(action - self.b) / (2 * self.c)).sum()
        return jnp.where(action[0] < 0.3, jnp.nan, jax.lax.stop_gradient(value))


def test_cem_needs_values_alone_and_passes_over_those_that_are_not_numbers():
    problem = bandit()._replace(likelihood=Ragged(as32(B), as32(C)))
    lam = rows.compiled(lambda key: CEM()(problem, FAMILIES["gaussian"], key).lam)(make_key(0))
    assert np.isfinite(lam).all()
    np.testing.assert_allclose(lam[:A], MEAN, atol=0.25)


def test_a_gradient_that_is_not_finite_moves_nothing():
    problem = bandit()._replace(likelihood=Quadratic(as32(B), as32(0.0 * C)))
    for tx in (adam(1e-2), sgd(1e-2)):
        ascent = GradientAscent(3, 2, tx)
        lam = rows.compiled(lambda key, ascent=ascent: ascent(problem, FAMILIES["gaussian"], key).lam)(make_key(0))
        np.testing.assert_array_equal(lam, np.zeros(2 * A))


def amortised(name):
    """A network that infers, and is not trained."""
    if name == "direct":
        return Direct(mlp((3,), 2 * A, (8,), key=make_key(3)))
    return iterative(3, FAMILIES["gaussian"], (8,), Iterations(2, 2), key=make_key(3))


@pytest.mark.parametrize("name", ["direct", "iterative"])
def test_semi_amortised_improves_and_trains_the_amortised_part_as_by_itself(name):
    posterior, first = Gaussian(A, signs), amortised(name)
    together = semi_amortised(first, GradientAscent(40, 2, adam(3e-2)))
    problem, key = bandit(), make_key(0)

    def surrogate(inference):  # what the E-step climbs, with noise that does not depend on keys
        inferred = inference(problem, posterior, key)
        return soft_value(posterior(inferred.lam), problem, key, 2)[0] + inferred.earlier, inferred

    grad = rows.compiled(jax.grad(surrogate, has_aux=True))
    alone, before = grad(first)
    ours, after = grad(together)
    assert gap(posterior, after.lam) < 0.5 * gap(posterior, before.lam)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-6), ours.start, alone)
    assert max(np.abs(leaf).max() for leaf in jax.tree.leaves(alone)) > 1e-3
    np.testing.assert_allclose(after.values[: len(before.values)], before.values, rtol=1e-5)
    assert len(after.values) == len(before.values) + 40


def signs(key, n, a):
    """Two points with the mean and the variance of the standard normal."""
    return jnp.stack([jnp.ones(a), -jnp.ones(a)])


@pytest.mark.long
def test_the_e_step_trains_what_a_semi_amortised_optimiser_begins_with():
    row = rows.start("sac")
    inference = semi_amortised(row.inference.model, GradientAscent(2, 2))
    agent = replace(row, inference=replace(row.inference, model=inference, opt_state=row.inference.opt_state))
    agent = replace(agent, temperature=fixed(Constant(jnp.asarray(0.3))))
    after, _, _, info = rows.compiled(climb_each_state)(agent, rows.batch(), make_key(1))
    after, sound = apply_pending(after)
    assert sound
    assert info["e/improvement_2"] > 0
    moved = [
        np.abs(x - y).max() for x, y in zip(*map(jax.tree.leaves, (inference, after.inference.model)), strict=True)
    ]
    assert min(moved) > 0


@pytest.mark.parametrize("name", [*OPTIMISERS, "direct"])
def test_no_gradient_reaches_the_problem(name):
    inference = {
        "adam": GradientAscent(3, 2),
        "sgd": GradientAscent(3, 2, sgd(1e-2)),
        "cem": CEM(3, 20),
        "importance": Importance(20, 2),
        "importance-prior": Importance(20, 1, from_prior),
        "restarts": Restarts(GradientAscent(3, 2), 2),
        "direct": semi_amortised(amortised("direct"), GradientAscent(3, 2)),
    }[name]

    def found(problem):
        inferred = inference(problem._replace(obs=jnp.ones(3)), FAMILIES["gaussian"], make_key(0))
        return inferred.lam.sum() + inferred.earlier

    for leaf in jax.tree.leaves(rows.compiled(jax.grad(found))(bandit())):
        np.testing.assert_array_equal(leaf, 0.0)


@pytest.mark.long
@pytest.mark.parametrize("name", ["gradient", "cem", "importance", "iterative"])
def test_an_optimiser_starts_where_it_is_told(name):
    others = {"gradient": GradientAscent(2, 9), "cem": CEM(2, 20), "importance": Importance(20, 2)}
    inference = others[name] if name in others else replace(amortised(name), samples=9)
    far = jnp.asarray([3.0] * A + [-2.0] * A)
    begun = infer(starting(inference, At(far)), FAMILIES["gaussian"])
    start = soft_value(FAMILIES["gaussian"](far), bandit(), make_key(1), 2000)[0]
    np.testing.assert_allclose(begun.values[0], start, rtol=0.1)
    with pytest.raises(UsageError, match="Direct does not start anywhere"):
        starting(amortised("direct"), At(far))


def test_scattered_starts_have_the_spread_they_are_told():
    scattered = Scattered(At(jnp.asarray([3.0] * 2 * A)), 0.5)
    draw = lambda key: scattered(bandit(), FAMILIES["gaussian"], key).lam
    lams = np.asarray(rows.compiled(jax.vmap(draw))(jax.random.split(make_key(0), 4000)))
    np.testing.assert_allclose(lams.mean(0), 3.0, atol=0.05)
    np.testing.assert_allclose(lams.std(0)[:A], 0.5, rtol=0.1)
    np.testing.assert_array_equal(lams[:, A:], 3.0)  # log scales stay


def test_distinct_modes_are_the_best_of_their_neighbourhood():
    lams = jnp.asarray([[0.0, 0.0], [2.0, 0.0], [0.05, 0.0], [2.0, 0.08], [2.0, 5.0], [jnp.nan, 0.0]])
    values = jnp.asarray([1.0, 0.2, 1.1, 0.3, -1.0, jnp.nan])
    np.testing.assert_array_equal(distinct_modes(lams, values, 0.1), [False, False, True, True, True, False])
    assert distinct_modes(lams, values, 0.01).sum() == 5
    assert distinct_modes(lams, values, 10.0).sum() == 1


class Lucky(Quadratic):
    """The same Q with noise, as returns of imagined steps have it."""

    def __call__(self, problem, action, key):
        return super().__call__(problem, action, key) + 5.0 * jax.random.normal(key)


@pytest.mark.parametrize(
    "optimiser", [Importance(50, 3), CEM(3, 50), ClosedForm(20)], ids=["importance", "cem", "particles"]
)
def test_luck_that_has_nothing_to_do_with_the_action_chooses_none(optimiser):
    """Samples that are compared have the same random numbers, so noise that is equal for all moves nothing."""
    family = Boltzmann(A, 20) if isinstance(optimiser, ClosedForm) else Gaussian(A)
    sure = bandit()
    lucky = sure._replace(likelihood=Lucky(sure.likelihood.b, sure.likelihood.c))
    run = rows.compiled(lambda problem, key: family(optimiser(problem, family, key).lam).mode())
    np.testing.assert_allclose(run(lucky, make_key(0)), run(sure, make_key(0)), atol=1e-4)


def test_the_effective_sample_size_lies_between_one_and_the_number_of_draws():
    for n in (1, 7, 1000):
        assert ess(jnp.full(n, -3e4)) == pytest.approx(n, rel=1e-5)
        for scale in (0.0, 1.0, 1e2, 1e30):
            assert 1 <= ess(scale * jax.random.normal(make_key(n), (n,))) <= n
    assert ess(jnp.asarray([0.0, -jnp.inf, -1e9])) == 1
    weights = np.array([0.5, 0.3, 0.2])
    np.testing.assert_allclose(ess(as32(np.log(weights)) + 40), 1 / (weights**2).sum(), rtol=1e-5)


def test_importance_sampling_reports_its_weights_and_the_evidence():
    run = lambda inference: rows.compiled(lambda key: inference.with_diagnostics(bandit(), FAMILIES["gaussian"], key))
    inferred, went = run(Importance(2000, 5))(make_key(0))
    np.testing.assert_array_equal(inferred.lam, infer(Importance(2000, 5), FAMILIES["gaussian"]).lam)
    assert (went.ess >= 1).all()
    assert (went.ess <= 2000).all()
    assert went.ess[0] < 400  # the prior is far from the posterior
    assert went.ess[-1] > 1900  # where it ends, nearly not
    np.testing.assert_allclose(went.evidence[1:], EVIDENCE, atol=0.02)
    # unbiased for Z itself: the mean over runs within three standard errors
    keys = jax.random.split(make_key(1), 300)
    one = Importance(300, 1, from_prior)
    log_z = rows.compiled(jax.vmap(lambda key: one.with_diagnostics(bandit(), FAMILIES["gaussian"], key)[1].evidence))
    z = np.exp((np.asarray(log_z(keys), np.float64) - EVIDENCE) / ALPHA)
    assert abs(z.mean() - 1) < 3 * z.std() / np.sqrt(len(z))


def test_log_scales_are_cut_off_and_the_rest_is_left():
    for family in (Gaussian(2), FullGaussian(2), Mixture(2, 2), Autoregressive(2)):
        lam = jnp.linspace(-8.0, 8.0, sum(family.block_sizes))
        cut = np.asarray(clip(lam, family, -1.0, 0.5))
        low, high = (jnp.full(family.num_scales, limit) for limit in (-1.0, 0.5))
        scale = np.asarray(family.bound(jnp.full_like(lam, 99.0), low, high)) != 99.0
        np.testing.assert_array_equal(cut[~scale], lam[~scale])
        np.testing.assert_array_equal(cut[scale], np.clip(np.asarray(lam)[scale], -1.0, 0.5))
        np.testing.assert_array_equal(clip(jnp.asarray(cut), family, -1.0, 0.5), cut)
