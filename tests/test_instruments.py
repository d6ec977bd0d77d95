"""Instruments against quadrature, closed forms and an environment whose returns are known."""

from dataclasses import replace
from types import SimpleNamespace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import estep
from estep.algorithms.iterative_sac import IterativeSAC
from estep.core.agent import with_inference
from estep.core.bootstrap import posterior_value
from estep.core.keys import make_key
from estep.core.learned import fixed
from estep.core.objective import soft_value
from estep.core.optim import adam
from estep.core.slots import Likelihood, Problem
from estep.core.types import Identity, Spec
from estep.envs.base import Step
from estep.errors import RejectedInput, UsageError
from estep.families.gaussian import Normal, gaussian_kl
from estep.inference.gradient import GradientAscent
from estep.inference.starts import At
from estep.instruments import (
    calibration,
    gap,
    inspection,
    landscape,
    modes,
    optimisers,
    quadrature,
    staleness,
    states,
    tables,
    transfer,
)
from estep.instruments.improvement import improvement
from estep.instruments.interval import interval
from estep.likelihoods.q_function import Pessimism, minimum
from estep.m_steps.temperature import Constant
from estep.plots.inference import draw
from estep.priors.flat import Flat
from estep.priors.gaussian import FixedGaussian
from estep.priors.uniform import Uniform
from oracles import quadrature as oracle
from oracles import rows

pytestmark = pytest.mark.long

ALPHA = 0.3
OBS = jnp.zeros((3, 3))


class Wavy(Likelihood):
    """A smooth skew Q on the box whose dimensions interact."""

    def __call__(self, problem, action, key):
        a = jnp.tanh(action)
        return -1.5 * jnp.square(a - 0.3).sum() + 0.5 * jnp.sin(3.0 * a.sum()) - 0.4 * a.prod()

    def loss(self, batch, bootstrap, key):
        return jnp.zeros(()), {}


class Quadratic(Wavy):
    """Q = -Σ (u - 0.7)²/2c."""

    def __call__(self, problem, action, key):
        return -(jnp.square(action - 0.7) / 0.8).sum()


class TwoPeaks(Wavy):
    """Two equal optima in the first dimension, at ±0.7."""

    def __call__(self, problem, action, key):
        a = jnp.tanh(action)
        return -20.0 * jnp.square(jnp.square(a[0]) - 0.49) - jnp.square(a[1])


def over(row, critic, prior=None):
    """A small agent of a row with another critic, at a known temperature."""
    agent = replace(rows.start(row), likelihood=fixed(critic), temperature=fixed(Constant(jnp.asarray(ALPHA))))
    return agent if prior is None else replace(agent, prior=fixed(prior))


@pytest.mark.parametrize(("a", "prior"), [(1, "flat"), (1, "gaussian"), (2, "uniform")])
def test_the_gap_identity_by_quadrature(a, prior):
    with jax.enable_x64(True):
        spec = Spec(1, a)
        made = {"flat": Flat(spec), "uniform": Uniform(spec)}.get(prior)
        made = made or FixedGaussian(jnp.full(a, 0.2), jnp.full(a, 0.9))
        q = Normal(jnp.linspace(0.1, 0.6, a), jnp.linspace(-1.5, -0.5, a))
        problem = Problem(jnp.zeros(1), made, Wavy(), jnp.asarray(ALPHA))
        found = jax.jit(lambda q: quadrature.exact(problem, q, q, 48))(q)
        assert abs(found.evidence - found.value - found.divergence) < 1e-6
        assert found.divergence > 1e-2
        draws = jax.vmap(lambda key: soft_value(q, problem, key, 64)[0])(jax.random.split(make_key(0), 64))
        assert abs(draws.mean() - found.value) < 3 * draws.std(ddof=1) / 8
        if (a, prior) == (1, "flat"):
            critic = lambda x: -1.5 * (x - 0.3) ** 2 + 0.5 * np.sin(3 * x) - 0.4 * x
            lam = float(q.mu[0]), float(q.log_sigma[0])
            np.testing.assert_allclose(found.evidence, oracle.log_z(critic, ALPHA), atol=1e-9)
            np.testing.assert_allclose(found.value, oracle.objective(critic, ALPHA, *lam), atol=1e-9)


def test_quadrature_refuses_what_it_cannot_integrate():
    q, three = Normal(jnp.zeros(2), jnp.zeros(2)), Normal(jnp.zeros(3), jnp.zeros(3))
    problem = Problem(jnp.zeros(1), Flat(Spec(1, 2, Identity())), Wavy(), jnp.asarray(ALPHA))
    for family, match in ((q, "flat prior"), (three, "3 dimensions"), (Flat(Spec(1, 2)).density, "not for Improper")):
        with pytest.raises(UsageError, match=match):
            quadrature.exact(problem, family, family, 4)


def test_the_gap_splits_and_agrees_with_draws(monkeypatch):
    agent, obs = over("sac", Wavy()), jax.random.normal(make_key(1), (6, 3))
    found = gap.gap(agent, obs, make_key(2))
    errors = [abs(row.value - row.sampled) / row.error for row in found]
    assert sum(error > 3 for error in errors) <= 1
    assert max(errors) < 5
    for row in found:
        np.testing.assert_allclose(row.total, row.divergence, atol=1e-6)
        np.testing.assert_allclose(row.total, row.approximation + row.amortisation)
        assert row.amortisation > 0.05  # a network that was never trained
        assert 0 < row.approximation < 0.2
    # Q does not look at the state, so all states have one optimum, and from each it was found
    np.testing.assert_allclose([row.best for row in found], found[0].best, atol=2e-3)
    np.testing.assert_allclose([row.evidence for row in found], found[0].evidence, atol=1e-6)
    monkeypatch.setattr(gap, "has_quadrature", lambda agent: False)
    for exact, row in zip(found, gap.gap(agent, obs, make_key(2)), strict=True):
        assert np.isnan(row.divergence)
        assert row.value == row.sampled == exact.sampled
        assert exact.evidence - 0.05 < row.evidence < exact.evidence + 0.02
        assert row.ess > 1000


def test_quadrature_is_for_two_dimensions_at_most():
    assert gap.has_quadrature(over("sac", Wavy()))
    assert not gap.has_quadrature(replace(over("sac", Wavy()), spec=Spec(3, 3)))


def test_improvement_is_that_of_the_path():
    agent = over("iterative-sac", Quadratic(), FixedGaussian(jnp.full(2, 2.0), jnp.ones(2)))
    # a fresh network halves λ at each iteration: from the prior's mean 2 towards, then past, the optimum near 0.6
    found = improvement(agent, OBS, make_key(0), 4)
    assert [row.iteration for row in found] == [0, 1, 2, 3, 4]
    assert found[0].mean == found[0].low == found[0].high == 0
    assert found[1].mean > 1
    assert all(row.low <= row.mean <= row.high for row in found)
    with pytest.raises(UsageError, match="makes no iterations"):
        improvement(over("sac", Quadratic()), OBS, make_key(0), 2)


@pytest.fixture(scope="module")
def climbed():
    agent = over("iterative-sac", TwoPeaks())
    kept = {("start", 0), ("iterative", 3), ("gradient", 3), ("gradient", 30), ("cem", 3), ("importance", 3)}
    rungs = [rung for rung in optimisers.candidates(agent) if (rung.optimiser, rung.iterations) in kept]
    return agent, optimisers.run_candidates(agent, OBS, make_key(3), rungs)


def test_optimisers_are_compared_at_equal_noise(climbed):
    agent, found = climbed
    table = optimisers.compare(found)
    costs = {(rung.optimiser, rung.iterations): rung[3:] for rung in optimisers.candidates(agent)}
    wanted = {("gradient", 3): (30, 30), ("gradient", 30): (300, 300), ("cem", 3): (300, 0), ("iterative", 3): (30, 30)}
    # ten steps from where three iterations of ten draws end
    assert {**wanted, ("semi-amortised", 10): (130, 130), ("importance", 3): (3000, 0)}.items() <= costs.items()
    by = {(row.optimiser, row.iterations): row for row in table}
    assert by["gradient", 30].mean > by["gradient", 3].mean > 0
    assert by["importance", 3].mean > by["cem", 3].mean
    assert all(row.milliseconds > 0 and row.missing >= 0 for row in table)
    assert min(row.missing for row in table) < 0.02
    start = found[0].lam
    np.testing.assert_allclose(start, np.tile([0, 0, np.log(0.5), np.log(0.5)], (3, 1)), rtol=1e-6)


def test_an_optimiser_goes_the_same_way_however_far():
    agent = over("sac", Wavy())
    problem = agent.problem(agent.likelihood.model, OBS[0])
    short, long = (GradientAscent(k, 4)(problem, agent.posterior, make_key(5)).values for k in (2, 6))
    np.testing.assert_allclose(long[:2], short, rtol=1e-6)


def test_the_landscape_is_the_objective(climbed):
    agent, found = climbed
    one = landscape.landscape(agent, OBS[1], found, 1, make_key(4), grid=9)
    best = max(found, key=lambda climb: climb.value[1]).lam[1]
    axes = [0, 1]
    assert one.names == ("mean 1", "mean 2")
    lam = best.copy()
    lam[axes] = one.x[2], one.y[7]
    problem = agent.problem(agent.likelihood.model, OBS[1])
    truth = soft_value(agent.posterior(jnp.asarray(lam)), problem, make_key(4), landscape.SAMPLES)[0]
    np.testing.assert_allclose(one.values[7, 2], truth, rtol=1e-5)
    for path in one.paths.values():
        assert (path >= [one.x[0], one.y[0]]).all()
        assert (path <= [one.x[-1], one.y[-1]]).all()
    np.testing.assert_allclose(one.paths["gradient"][0], 0.0)
    assert len(one.paths["gradient"]) == 3


def test_modes_on_the_bimodal_bandit():
    agent = over("sac", TwoPeaks())
    found = modes.modes(agent, OBS[:2], make_key(0), 12)
    np.testing.assert_array_equal(found.counts, 2)
    for action, share in zip(found.action, found.share, strict=True):
        heavy = share >= modes.LEAST_SHARE
        np.testing.assert_allclose(np.sort(action[heavy][:, 0]), [-0.7, 0.7], atol=0.05)
        np.testing.assert_allclose(share[heavy], 0.5, atol=0.1)
    one = modes.modes(over("sac", Quadratic(), FixedGaussian(jnp.zeros(2), jnp.ones(2))), OBS[:2], make_key(0), 12)
    np.testing.assert_array_equal(one.counts, 1)


class Steady:
    """Reward 1 at every step in either of two environments, whose episodes have a fixed length."""

    num_envs, spec = 2, rows.SPEC

    def __init__(self, length, terminates):
        self.length, self.terminates, self.t = length, terminates, 0

    def reset(self):
        return np.ones((2, 3), np.float32)

    def step(self, action):
        self.t += 1
        end = np.full(2, self.t % self.length == 0)
        never, one = np.zeros(2, bool), np.ones(2, np.float32)
        ended = (end, never) if self.terminates else (never, end)
        return Step(self.reset(), one, *ended, np.ones(2, bool), self.reset())


class Known(Likelihood):
    """Two members that say q ± 1, with the interface of an ensemble."""

    q: jax.Array
    gamma: float = eqx.field(static=True, default=0.9)
    pessimism: Pessimism = eqx.field(static=True, default=minimum)

    def values(self, obs, action):
        return self.q + jnp.asarray([1.0, -1.0])

    def __call__(self, problem, action, key):
        return self.values(problem.obs, action).min()

    def loss(self, batch, bootstrap, key):
        return jnp.zeros(()), {}


def steady(row, terminates, q, betas=(0.0, 1.0)):
    """The calibration of an agent of this row whose critic says q - 1, where every reward is 1."""
    prior = FixedGaussian(jnp.zeros(2), jnp.ones(2))
    agent = over(row, Known(jnp.asarray(q)), None if row == "mpo" else prior)
    if row == "sac":  # a policy that is the same everywhere: N(0.5, e^-1), so its KL is known
        agent = replace(agent, inference=fixed(At(jnp.asarray([0.5, 0.5, -1.0, -1.0]))))
    return agent, calibration.calibration(agent, Steady(40, terminates), None, make_key(0), 2, betas)


def test_calibration_is_exact_where_the_soft_value_is_known():
    price = ALPHA * float(gaussian_kl(Normal(jnp.full(2, 0.5), jnp.full(2, -1.0)), Normal(jnp.zeros(2), jnp.zeros(2))))
    true = 1 + 0.9 * (1 - price) / (1 - 0.9)  # the KL of a step is in no return of its own
    agent, found = steady("sac", False, true + 1)
    assert found.soft
    assert len(found.pairs) > 40
    assert max(pair.tail for pair in found.pairs) <= calibration.TAIL
    own, zero, one = found.biases
    # the tail is the critic's own V = Q̂ - α KL, which is right: so every return is
    np.testing.assert_allclose([pair.earned for pair in found.pairs], true, rtol=1e-5)
    np.testing.assert_allclose(own.mean, 0.0, atol=1e-4)
    np.testing.assert_allclose((zero.mean, one.mean), (1.0, 0.0), atol=1e-4)
    assert own.own
    assert np.isnan(own.beta)  # a rule without β
    assert price > 0.1
    assert calibration.members(agent) == 2


def test_an_episode_that_terminates_earns_nothing_after():
    _, found = steady("mpo", True, 3.0)
    assert not found.soft  # the prior acts and is what the critic bootstraps from: the plain return
    for pair in found.pairs:
        np.testing.assert_allclose(pair.earned, (1 - 0.9 ** (40 - pair.step)) / 0.1, rtol=1e-6)
        assert (pair.tail, pair.predicted, pair.mean, pair.std) == (0.0, 2.0, 3.0, 1.0)
    assert {pair.step for pair in found.pairs if pair.episode == 1} == set(range(40))


def test_pairs_that_hang_on_the_bootstrap_are_left_out():
    agent, found = steady("sac", False, 5.0)
    assert max(pair.step for pair in found.pairs) == 40 - int(np.ceil(np.log(calibration.TAIL) / np.log(0.9)))
    with pytest.raises(UsageError, match="too short to measure returns"):
        calibration.calibration(agent, Steady(4, False), None, make_key(0), 2)
    assert agent.bootstrap is posterior_value


def test_particles_have_no_optimiser_to_inspect():
    agent = rows.start("mpo")
    for measure in (gap.gap, modes.modes):
        with pytest.raises(UsageError, match="no λ to optimise"):
            measure(agent, OBS, make_key(0))
    with pytest.raises(UsageError, match="no λ to optimise"):
        optimisers.run_candidates(agent, OBS, make_key(0), [optimisers.START])
    with pytest.raises(UsageError, match="does not say what its networks predict"):
        calibration.critic(over("sac", Wavy()))


def test_what_is_remembered_is_missed_under_another_objective_and_what_climbs_is_not():
    agent = over("sac", Wavy())
    climbing = GradientAscent(300, 16, adam(3e-2))
    problem = agent.problem(agent.likelihood.model, OBS[0])
    best = climbing(problem, agent.posterior, make_key(0)).lam
    found = {}
    for name, inference in (("remembers", At(best)), ("climbs", climbing)):
        rows = transfer.transfer(with_inference(agent, inference), OBS, make_key(1), {"other": TwoPeaks()})
        assert [row.iterations for row in rows] == [0, 0, 0]
        found[name] = {row.objective: row.missing for row in rows}
    assert max(found["climbs"][name] for name in ("own", "bonus")) < 0.02
    assert found["remembers"]["own"] < 0.02
    assert min(found["remembers"][name] for name in ("bonus", "other")) > 0.1


def test_iterations_go_on_under_another_objective():
    agent = over("iterative-sac", Wavy())
    rows = transfer.transfer(agent, OBS, make_key(1))
    steps = agent.acting(agent.inference.model).steps
    assert [(row.objective, row.iterations) for row in rows] == [
        (name, n * steps) for name in ("own", "bonus") for n in (1, 4)
    ]


def test_a_kept_best_misses_nothing_and_one_that_waited_does():
    row = IterativeSAC(hidden_sizes=(16, 16), iterations=2, persist=True)
    agent = replace(row.init(rows.SPEC, make_key(0)), likelihood=fixed(Wavy()))
    agent = replace(agent, temperature=fixed(Constant(jnp.asarray(ALPHA))))
    problem = agent.problem(agent.likelihood.model, OBS[0])
    best = GradientAscent(300, 16, adam(3e-2))(problem, agent.posterior, make_key(0)).lam
    kept = {0: jnp.tile(best, (3, 1)), 50: jnp.tile(best + 1.0, (3, 1))}
    found = staleness.staleness(agent, OBS, kept, make_key(1))
    acting = agent.acting(agent.inference.model).steps
    labels = [("kept", 0, k) for k in range(3)] + [("kept", 50, k) for k in range(3)] + [("afresh", 0, acting)]
    assert [row[:3] for row in found] == labels
    assert abs(found[0].missing) < 0.02
    assert found[3].missing > 0.1
    with pytest.raises(UsageError, match="stores no λ"):
        staleness.stored_optimiser(over("sac", Wavy()))


def test_what_replay_keeps_is_measured_in_the_same_states_at_every_checkpoint(tmp_path):
    row = IterativeSAC(hidden_sizes=(16, 16), iterations=2, persist=True)
    found = estep.train(
        row,
        "Pendulum-v1",
        steps=300,
        warmup_steps=100,
        batch_size=32,
        checkpoint_every=100,
        eval_episodes=1,
        out=tmp_path,
    )
    seen = inspection.inspect_run(found.run_dir, inspection.Options(only=("staleness",), states=8)).staleness
    assert {row.env_steps for row in seen if row.start == "kept"} == {0, 100}
    assert all(np.isfinite(row.missing) for row in seen)
    obs, kept = states.shared_states(estep.load(found.run_dir, "300"), [200, 300], 8, 0)
    assert kept[200].shape == kept[300].shape == (len(obs), 2)
    assert not np.array_equal(kept[200], kept[300])


def test_an_interval_covers_as_often_as_it_says():
    drawn = np.random.default_rng(0).normal(2.0, 3.0, (2000, 8))
    found = [interval(row) for row in drawn]
    assert 0.94 < np.mean([each.low <= 2.0 <= each.high for each in found]) < 0.96
    assert np.isnan(interval([1.0]).low)


def test_given_states_are_read_and_bad_ones_refused(tmp_path):
    path = tmp_path / "s.npy"
    np.save(path, np.arange(6.0).reshape(2, 3))
    np.testing.assert_array_equal(states.read_states(path, 3), np.arange(6, dtype=np.float32).reshape(2, 3))
    bad = [np.full((2, 3), np.nan), np.zeros((2, 4)), np.zeros((0, 3)), np.asarray(SimpleNamespace(), dtype=object)]
    for number, array in enumerate(bad):
        np.save(tmp_path / f"{number}.npy", array, allow_pickle=True)
        with pytest.raises(RejectedInput, match="states"):
            states.read_states(tmp_path / f"{number}.npy", 3)
    with pytest.raises(RejectedInput, match="states"):
        states.read_states(tmp_path / "nothing.npy", 3)
    np.testing.assert_array_equal(states.evenly_spaced(np.arange(9.0)[:, None], 3)[:, 0], [0, 4, 8])


def test_what_climbs_and_restarts_find_is_drawn(climbed, tmp_path):
    agent, found = climbed
    one = landscape.landscape(agent, OBS[0], found, 0, make_key(4), grid=9)
    ends = modes.Modes(np.zeros((2, 3, 2)), np.ones((2, 3)), np.ones((2, 3), bool), np.full((2, 3), 1 / 3))
    climbs = inspection.Comparison(optimisers.compare(found), found, 3)
    moved = [transfer.Transfer("own", 5, 0.1, 0.0, 0.2), transfer.Transfer("bonus", 5, 0.3, 0.2, 0.4)]
    seen = inspection.Inspection(10, 3, None, None, climbs, [one], ends, moved, None, None, None, {})
    files = tables.write(seen, tmp_path) | draw(seen, tmp_path)
    assert {"compare.png", "landscape_0.svg", "landscape_0_paths.csv", "modes.png", "modes.csv", "transfer.png"} <= set(
        files
    )
    assert all((tmp_path / name).stat().st_size for name in files)
    assert tables.summary(seen)["modes"] == {"states": 2, "restarts": 3, "mean": 3.0, "counts": [3, 3]}
