"""What every member of every slot promises, and what every row promises."""

import importlib
import pkgutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import estep
from estep.core import acting, em
from estep.core.agent import Instead
from estep.core.keys import make_key
from estep.core.learned import fixed, learn
from estep.core.objective import soft_value
from estep.core.optim import adam
from estep.core.slots import (
    Distribution,
    Draws,
    Inference,
    Likelihood,
    Posterior,
    Prior,
    Problem,
    Projection,
    Temperature,
)
from estep.core.types import Clip, Identity, OneHot, OneHots, Spec, Squash, Tanh
from estep.e_steps.chain import Resumed
from estep.e_steps.plans import Plan
from estep.errors import UsageError
from estep.families.autoregressive import Autoregressive, AutoregressiveNormal
from estep.families.categorical import Categorical, FactoredCategorical, FactoredSoftmax, Softmax
from estep.families.full_gaussian import FullGaussian, FullNormal, strictly_lower
from estep.families.gaussian import Gaussian, Normal
from estep.families.levels import Levels, LowLevel, OverLatents, TwoLevels
from estep.families.mixture import Mixture, NormalMixture
from estep.families.particles import Boltzmann, Particles
from estep.families.sampler import EqualMixture, Implicit, Sampled
from estep.families.uniform import Improper, UniformAction, UniformSquashed
from estep.inference.cem import CEM
from estep.inference.closed_form import ClosedForm, Exact
from estep.inference.columns import TwoColumns
from estep.inference.direct import Direct
from estep.inference.gradient import GradientAscent
from estep.inference.importance import Importance
from estep.inference.iterative import Iterations, Iterative, iterative
from estep.inference.levels import Following, TwoStage
from estep.inference.smc import Search
from estep.inference.starts import At, AtPrior, Restarts, Scattered
from estep.inference.stein import Stein
from estep.instruments.transfer import WithBonus
from estep.likelihoods.dynamics import WorldModel, ensemble
from estep.likelihoods.imagined import Imagined, Policy, Returns, SameNoise
from estep.likelihoods.maximised import RelativeQ
from estep.likelihoods.q_function import MeanMinusStd, QFunction, q_function
from estep.likelihoods.state_value import StateValue, state_value
from estep.m_steps.distil import Distil
from estep.m_steps.projection import Keep
from estep.m_steps.temperature import Constant, KLConstraint, TaskConstraints
from estep.m_steps.trust_region import TrustRegion, trust_region
from estep.nets import mlp
from estep.priors.flat import Flat
from estep.priors.gaussian import FixedGaussian
from estep.priors.levels import LevelPrior
from estep.priors.network import (
    CategoricalNetwork,
    FactoredNetwork,
    FullGaussianNetwork,
    GaussianNetwork,
    categorical_network,
    full_gaussian_network,
    gaussian_network,
)
from estep.priors.restricted import Restricted, restricted
from estep.priors.tempered import Tempered, TemperedDensity
from estep.priors.uniform import Uniform
from oracles import rows

A, SPEC = 2, Spec(3, 2)
SLOTS = (Distribution, Prior, Posterior, Likelihood, Inference, Temperature, Projection, Squash)
OBS, U, KEY = jnp.asarray([0.5, -1.0, 0.2]), jnp.asarray([0.3, -0.7]), make_key(0)

MODEL = WorldModel(q_function(2, SPEC, (8,), MeanMinusStd(1.0), 0.9, key=KEY), ensemble(SPEC, (8,), 2, key=KEY))

SEARCH = Search(
    jnp.stack([U, -U, 2 * U]),
    jnp.log(jnp.asarray([0.5, 0.2, 0.3])),
    jnp.zeros(3),
    jnp.zeros(()),
    jnp.ones(1),
    jnp.ones(1),
)
TWO_STAGE = TwoStage(mlp((3,), 2 * A, (8,), key=KEY), LowLevel(mlp((2, A), 2 * A, (8,), key=KEY), (0, 2)), samples=2)
MEMBERS = {
    Improper: Improper(Tanh(), A),
    UniformSquashed: UniformSquashed(A),
    TemperedDensity: TemperedDensity(Normal(jnp.asarray([0.1, -0.4]), jnp.asarray([-1.0, 0.2])), Tanh(), 0.3),
    UniformAction: UniformAction(A),
    Normal: Normal(jnp.asarray([0.1, -0.4]), jnp.asarray([-1.0, 0.2])),
    FullNormal: FullNormal(U, jnp.asarray([-1.0, 0.2]), strictly_lower(jnp.asarray([0.8]), A)),
    NormalMixture: NormalMixture(jnp.asarray([0.4, -0.3]), jnp.stack([U, -U]), jnp.asarray([[-1.0, 0.2], [0.1, -0.5]])),
    AutoregressiveNormal: AutoregressiveNormal(
        U,
        jnp.asarray([-1.0, 0.2]),
        strictly_lower(jnp.asarray([0.8]), A),
        strictly_lower(jnp.asarray([-0.6]), A),
    ),
    Categorical: Categorical(U),
    FactoredCategorical: FactoredCategorical(U, (A,)),
    Particles: Particles(jnp.stack([U, -U, 2 * U]), jnp.log(jnp.asarray([0.5, 0.2, 0.3]))),
    Sampled: Sampled(jnp.stack([U, -U, 2 * U]), jnp.asarray([0.5, 2.0, -1.0])),
    OverLatents: OverLatents(Normal(U, jnp.zeros(A)), None, 0.5, Tanh(), 0.5),
    TwoLevels: TwoLevels(
        Normal(U, jnp.zeros(A)),
        jnp.stack([U, -U]),
        jnp.zeros(A),
        jnp.zeros(()),
        Normal(U, jnp.zeros(A)),
        Normal(jnp.stack([U, -U]), jnp.asarray([[-1.0, 0.2], [0.1, -0.5]])),
    ),
    Plan: Plan(SEARCH, Normal(U, jnp.zeros(A))),
    EqualMixture: EqualMixture(UniformSquashed(A), Normal(U, jnp.asarray([-1.0, 0.2]))),
    Flat: Flat(SPEC),
    Uniform: Uniform(SPEC),
    FixedGaussian: FixedGaussian(jnp.zeros(A), jnp.full(A, 0.7)),
    GaussianNetwork: gaussian_network(SPEC, (8,), 0.5, key=KEY),
    FullGaussianNetwork: full_gaussian_network(SPEC, (8,), 0.5, key=KEY),
    Restricted: restricted(SPEC, ("0", "2"), lambda spec: gaussian_network(spec, (8,), 0.5, key=KEY)),
    Tempered: Tempered(gaussian_network(SPEC, (8,), 0.5, key=KEY), Tanh(), 0.3),
    LevelPrior: LevelPrior(None, None, Gaussian(A), A, 0.5, 0.5, Tanh()),
    CategoricalNetwork: categorical_network(SPEC, (8,), key=KEY),
    FactoredNetwork: FactoredNetwork(mlp((3,), A, (8,), key=KEY), (A,)),
    Gaussian: Gaussian(A),
    FullGaussian: FullGaussian(A),
    Mixture: Mixture(A, 2),
    Autoregressive: Autoregressive(A),
    Levels: Levels(A, Gaussian(A), 2),
    Boltzmann: Boltzmann(A, 4),
    Softmax: Softmax(A),
    FactoredSoftmax: FactoredSoftmax((A,)),
    Implicit: Implicit(A, 4),
    QFunction: q_function(2, SPEC, (8,), MeanMinusStd(1.0), 0.9, key=KEY),
    RelativeQ: RelativeQ(q_function(2, SPEC, (8,), MeanMinusStd(1.0), 0.9, key=KEY)),
    WithBonus: WithBonus(q_function(2, SPEC, (8,), MeanMinusStd(1.0), 0.9, key=KEY), jnp.asarray(0.5), Tanh()),
    WorldModel: MODEL,
    Imagined: Imagined(
        MODEL.critic, MODEL.dynamics, Policy(AtPrior(), Gaussian(A)), Tanh(), jnp.asarray(1.0), Returns(2, 0.9)
    ),
    SameNoise: SameNoise(MODEL.critic),
    StateValue: state_value(SPEC, (8,), 0.9, 0.95, key=KEY),
    Direct: Direct(mlp((3,), 2 * A, (8,), key=KEY)),
    TwoColumns: TwoColumns(mlp((3,), 2 * A, (8,), key=KEY), 0.3),
    TwoStage: TWO_STAGE,
    Following: Following(TWO_STAGE, U, jnp.ones(())),
    Iterative: iterative(3, Gaussian(A), (8,), Iterations(2, 2), key=KEY),
    ClosedForm: ClosedForm(4),
    Exact: Exact(),
    Stein: Stein(mlp((3, A), A, (8,), key=KEY), A, 4),
    GradientAscent: GradientAscent(3, 2),
    CEM: CEM(3, 20),
    Importance: Importance(20, 2),
    AtPrior: AtPrior(),
    Instead: Instead(GradientAscent(3, 2), AtPrior()),
    At: At(jnp.asarray([0.3, -0.7, -1.0, 0.2])),
    Scattered: Scattered(AtPrior(), 0.5),
    Resumed: Resumed(jnp.asarray([0.3, -0.7, -1.0, 0.2]), jnp.asarray(0.0), AtPrior()),
    Restarts: Restarts(GradientAscent(2, 2), 3),
    KLConstraint: KLConstraint(jnp.zeros(()), 1.0),
    TaskConstraints: TaskConstraints(jnp.asarray([0.3, -0.2]), 1.0),
    Constant: Constant(jnp.asarray(0.2)),
    Keep: Keep(),
    Distil: Distil(),
    TrustRegion: trust_region(Normal(jnp.zeros(A), jnp.zeros(A)), [(0.1, 1.0), (0.01, 1.0)]),
    Tanh: Tanh(),
    Identity: Identity(),
    Clip: Clip(),
    OneHot: OneHot(),
    OneHots: OneHots((A,)),
}
"""One instance of every member of every slot."""
UNSAMPLED = {Improper, TemperedDensity}
"""Improper densities."""
OVER_LATENTS = {OverLatents, LevelPrior}
"""They have no density over actions."""
DISCRETE = {Particles, Plan, Sampled}
"""Weighted points: draws without a density."""
EXACT = {Categorical, Softmax, FactoredSoftmax}
"""Over A choices: all of them are drawn, whatever the number asked for."""
CHOICES = {FactoredCategorical}
"""Samples of choices, whose probabilities are no density over numbers."""
FITTING = {ClosedForm: Boltzmann, Exact: Softmax, Stein: Implicit, TwoStage: Levels, Following: Levels}
"""Optimisers of a family of their own."""


def members(slot):
    return [pytest.param(member, id=kind.__name__) for kind, member in MEMBERS.items() if issubclass(kind, slot)]


NEEDS_AN_EXTRA = {"estep.tuning.on_ray", "estep.tuning.pbt"}


def test_every_member_of_every_slot_is_in_the_table():
    for module in pkgutil.walk_packages(estep.__path__, "estep."):
        if module.name not in NEEDS_AN_EXTRA:
            importlib.import_module(module.name)
    found = {kind for slot in SLOTS for kind in slot.__subclasses__() if kind.__module__.startswith("estep.")}
    assert not found - set(MEMBERS), "add an instance of these to MEMBERS: their contract is not tested"
    assert not set(MEMBERS) - found


def once(function, *args):
    """`function` compiled and called twice, traced once."""
    traced = []

    def counted(*args):
        traced.append(1)
        return function(*args)

    run = rows.compiled(counted)
    run(*args)
    result = run(*args)
    assert len(traced) == 1
    return result


def batched(function, *args):
    """`function` under `vmap` over three copies gives each the result of one."""
    single = once(function, *args)
    stack = jax.tree.map(lambda leaf: jnp.stack([leaf] * 3), args)
    many = rows.compiled(jax.vmap(function))(*stack)
    jax.tree.map(lambda m, s: np.testing.assert_allclose(m[1], s, rtol=1e-5, atol=1e-6), many, single)
    return single


@pytest.mark.parametrize("density", members(Distribution))
def test_distributions(density):
    if type(density) in OVER_LATENTS:
        calls = (
            density.mode,
            lambda: density.log_prob(U),
            lambda: density.sample(KEY),
            lambda: density.draw(KEY, 3, density),
        )
        for call in calls:
            with pytest.raises(UsageError, match="over its latent"):
                call()
        return
    assert density.mode().shape == (A,)
    prior = UniformSquashed(A)
    if type(density) in DISCRETE:
        assert batched(lambda d, k: d.sample(k), density, KEY).shape == (A,)
        draws = batched(lambda d, k: d.draw(k, 3, prior), density, KEY)
        np.testing.assert_allclose(draws.log_ratio, jnp.log(3 * draws.weight), rtol=1e-5, atol=1e-6)
        with pytest.raises(UsageError):
            density.log_prob(U)
        return
    assert batched(lambda d, u: d.log_prob(u), density, U).shape == ()
    if type(density) in UNSAMPLED:
        with pytest.raises(UsageError):
            density.sample(KEY)
        with pytest.raises(UsageError):
            density.draw(KEY, 3, prior)
        return
    assert batched(lambda d, k: d.sample(k), density, KEY).shape == (A,)
    draws = batched(lambda d, k: d.draw(k, 3, prior), density, KEY)
    n = A if type(density) in EXACT else 3
    assert (draws.action.shape, draws.weight.shape, draws.log_ratio.shape) == ((n, A), (n,), (n,))
    np.testing.assert_allclose(draws.weight.sum(), 1.0, rtol=1e-6)
    true = rows.compiled(jax.vmap(lambda u: density.log_prob(u) - prior.log_prob(u)))(draws.action)
    np.testing.assert_allclose(draws.log_ratio, true, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "density",
    [
        m
        for m in members(Distribution)
        if m.id not in {k.__name__ for k in UNSAMPLED | OVER_LATENTS | DISCRETE | EXACT | CHOICES}
    ],
)
def test_draws_have_the_density_they_say(density):
    """E_q[p/q] = 1 for a prior p that q covers."""
    p = Normal(jnp.asarray([0.0, -0.2]), jnp.full(A, -1.5))
    draws = rows.compiled(lambda key: density.draw(key, 40_000, Normal(p.mu, p.log_sigma)))(KEY)
    log_ratio = rows.compiled(jax.vmap(lambda u: density.log_prob(u) - p.log_prob(u)))(draws.action)
    assert abs(float(draws.weight @ jnp.exp(-log_ratio)) - 1) < 0.05
    np.testing.assert_allclose(draws.weight @ draws.log_ratio, draws.weight @ log_ratio, rtol=0.05)


@pytest.mark.parametrize("prior", members(Prior))
def test_priors(prior):
    if type(prior) not in OVER_LATENTS:
        assert batched(lambda p, s, u: p(s).log_prob(u), prior, OBS, U).shape == ()
    assert isinstance(prior(OBS), Distribution)


PAIRED = [prior for prior in members(Prior) if prior.id in ("Flat", "FixedGaussian", "FullGaussianNetwork")]
"""Priors that every family and optimiser is tried with: without draws, of the same family, and of another with
parameters. All pairs would take as long as the rest of the suite."""


@pytest.mark.parametrize("posterior", members(Posterior))
@pytest.mark.parametrize("prior", PAIRED)
def test_posteriors(posterior, prior):
    if not posterior.free:
        with pytest.raises(UsageError, match="starts nowhere"):
            posterior.start(prior(OBS))
        lam = TWO_STAGE(problem_of(prior), posterior, KEY).lam
    else:
        lam = batched(lambda q, s: q.start(prior(s)), posterior, OBS)
    assert lam.shape == (sum(posterior.block_sizes),)
    low, high = jnp.full(posterior.num_scales, -1.0), jnp.full(posterior.num_scales, 0.5)
    bounded = batched(posterior.bound, 10.0 * lam + 5.0, low, high)
    assert bounded.shape == lam.shape
    assert isinstance(posterior(bounded), Distribution)
    value, draws = once(lambda lam, key: soft_value(posterior(lam), problem_of(prior), key, 4), lam, KEY)
    assert value.shape == ()
    assert draws.action.shape == (A if type(posterior) in EXACT else 4, A)
    assert np.isfinite(value)


def problem_of(prior=MEMBERS[Flat], likelihood=MEMBERS[QFunction]):
    return Problem(OBS, prior, likelihood, jnp.asarray(0.3))


@pytest.mark.parametrize("inference", members(Inference))
@pytest.mark.parametrize("prior", PAIRED)
def test_inference(inference, prior):
    posterior = MEMBERS[FITTING.get(type(inference), Gaussian)]
    if type(inference) is TwoColumns:  # it builds on a prior of the family, to a power
        prior = MEMBERS[Tempered]
    if type(inference) is ClosedForm and type(prior) is Flat:
        with pytest.raises(UsageError):
            inference(problem_of(prior), posterior, KEY)
        return
    compiled = batched if type(prior) is FixedGaussian else once  # a second program for each pair would be too many
    inferred = compiled(lambda i, p, k: i(p, posterior, k), inference, problem_of(prior), KEY)
    assert inferred.lam.shape == (sum(posterior.block_sizes),)
    assert inferred.earlier.shape == ()
    assert inferred.values.ndim == 1
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(inferred))
    start = jax.eval_shape(lambda i, k: i.start_action(problem_of(prior), posterior, k), inference, KEY)
    assert start.shape == (A,)


@pytest.mark.parametrize("likelihood", members(Likelihood))
def test_likelihoods(likelihood):
    assert batched(lambda q, u, k: q(problem_of(likelihood=q), u, k), likelihood, U, KEY).shape == ()
    bootstrap = rows.start("sac").bootstrap(rows.start("sac"))
    loss, info = once(lambda q, batch, key: q.loss(batch, bootstrap, key), likelihood, rows.batch(), KEY)
    assert loss.shape == ()
    assert all(value.shape == () for value in info.values())


@pytest.mark.parametrize("temperature", members(Temperature))
def test_temperatures(temperature):
    assert batched(lambda t, obs: t(obs), temperature, jnp.asarray([0.5, 1.0, 0.0])) > 0
    kl, obs = jnp.asarray([0.5, 2.0]), jnp.asarray([[0.5, 1.0, 0.0], [0.5, 0.0, 1.0]])
    loss, info = batched(lambda t, kl, obs: t.loss(kl, obs), temperature, kl, obs)
    assert loss.shape == ()
    assert all(value.shape == () for value in info.values())


@pytest.mark.parametrize("projection", members(Projection))
def test_projections(projection):
    draws = Draws(jnp.zeros((5, 4, A)), jnp.full((5, 4), 0.25), jnp.zeros((5, 4)))
    prior = fixed(MEMBERS[FixedGaussian])
    new, info = once(projection, prior, draws, jnp.zeros((5, 3)))
    assert jax.tree.structure(new.step(jnp.asarray(True))) == jax.tree.structure(prior)
    assert all(value.shape == () for value in info.values())


@pytest.mark.parametrize("squash", members(Squash))
def test_squashes(squash):
    assert batched(lambda s, u: s(u), squash, U).shape == (A,)
    slope = jax.vmap(jax.grad(lambda u: squash(u[None])[0]))(U)
    np.testing.assert_allclose(batched(lambda s, u: s.log_det(u), squash, U), jnp.log(slope).sum(), rtol=1e-5)


def stepped(learned, loss):
    """The component after a step on the loss."""
    return learned.descend(loss)[0].step(jnp.asarray(True))


@pytest.mark.parametrize("member", [pytest.param(member, id=kind.__name__) for kind, member in MEMBERS.items()])
def test_fixed_freezes_and_learning_keeps_the_tree(member):
    leaves = lambda model: sum((leaf.sum() for leaf in jax.tree.leaves(model)), jnp.zeros(()))
    for make in (fixed, lambda model: learn(model, adam(1e-2), tau=0.1)):
        before = make(member)
        after = rows.compiled(lambda learned: stepped(learned, lambda model: (leaves(model), {})))(before)
        assert jax.tree.structure(after) == jax.tree.structure(before)
        same = [np.array_equal(x, y) for x, y in zip(*map(jax.tree.leaves, (before.model, after.model)), strict=True)]
        assert all(same) if make is fixed else not any(same)


@pytest.mark.parametrize("row", rows.EVERY)
def test_a_row_compiles_once_repeats_itself_and_runs_under_scan_and_vmap(row):
    update, steps = rows.updater(row), 2
    batches = [rows.batch_of(row, seed) for seed in range(steps)]
    singles = []
    for seed in range(3):
        agent = rows.start(row, seed)
        assert jax.tree.structure(agent) == jax.tree.structure(rows.start(row, 0))
        assert not [leaf for leaf in jax.tree.leaves(agent) if leaf.weak_type]  # a second compilation after a step
        for t in range(steps):
            agent, info = update(agent, batches[t], make_key(t))
            assert info["skipped"] == 0
        assert jax.tree.structure(agent) == jax.tree.structure(rows.start(row, seed))
        singles.append(agent)
    assert rows.TRACED[row] == 1
    again = rows.starter(row)(make_key(2))
    for t in range(steps):
        again, _ = update(again, batches[t], make_key(t))
    jax.tree.map(np.testing.assert_array_equal, again, singles[2])

    keys = jnp.stack([make_key(t) for t in range(steps)])
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *batches)
    run = lambda agent: jax.lax.scan(lambda agent, x: em.update(agent, *x), agent, (stacked, keys))[0]
    many = rows.compiled(jax.vmap(run))(
        jax.tree.map(lambda *leaves: jnp.stack(leaves), *[rows.start(row, s) for s in range(3)])
    )
    for seed in range(3):
        one = jax.tree.map(lambda leaf, seed=seed: leaf[seed], many)
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5), one, singles[seed])


@pytest.mark.parametrize("row", rows.EVERY)
def test_a_row_acts(row):
    agent, obs = rows.start(row), jnp.stack([OBS, -OBS, 2 * OBS, 0 * OBS])
    u, action = once(acting.act, agent, obs, KEY)
    np.testing.assert_array_equal(action, rows.compiled(jax.vmap(agent.spec.squash))(u))
    assert action.shape == (4, A)
    assert once(acting.act_greedily, agent, obs, KEY).shape == (4, A)


def test_draws_that_are_all_choices_are_not_weighed_as_equal():
    with pytest.raises(UsageError):
        ClosedForm(4)(problem_of(MEMBERS[CategoricalNetwork]), MEMBERS[Boltzmann], KEY)
