"""A learned model of the environment, returns of imagined steps, and the rows that have them."""

import functools as ft
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from estep.algorithms import MVE, SAC, Compose, IterativeMVE, IterativeSAC
from estep.core import em
from estep.core.agent import as_it_is, with_inference
from estep.core.keys import make_key
from estep.core.learned import learn
from estep.core.model import Prediction
from estep.core.objective import soft_value, values_of
from estep.core.optim import FOLLOW, adam
from estep.core.slots import Likelihood, Problem
from estep.core.types import Identity, OneHot, Spec, Tanh, Transition
from estep.errors import UsageError
from estep.families.gaussian import Gaussian, Normal
from estep.inference.gradient import GradientAscent
from estep.instruments import calibration
from estep.likelihoods.dynamics import Ensemble, WorldModel, ensemble, in_turn, optimiser
from estep.likelihoods.imagined import Imagined, Policy, Returns, estimate_name, measured
from estep.likelihoods.moments import Moments
from estep.priors.flat import Flat
from estep.priors.gaussian import FixedGaussian
from estep.priors.tempered import Tempered
from estep.priors.uniform import Uniform
from estep.runs.leaves import named_leaves
from estep.training.scale import note_agent
from oracles import lqr, rows

SPEC, KEY = Spec(3, 2), make_key(0)
SMALL = {"hidden_sizes": (8, 8), "members": 2, "model_hidden_sizes": (8,)}
QUICK = rows.compiled


class Linear(Likelihood):
    """Q̂(s, a) = w·s + v·a + s·a's first numbers, a critic whose values are easy to follow."""

    w: jax.Array

    def __call__(self, problem, action, key):
        return self.w @ problem.obs + 0.5 * action[0] + 0.3 * problem.obs[0] * action[1]

    def loss(self, batch, bootstrap, key):
        return jnp.zeros(()), {}


class Known:
    """A model that is given: s' = .9 s + B a + noise, r = s·a, and going on with a probability of the state."""

    members = 3

    def __init__(self, std=0.0):
        self.std = std

    def predict(self, obs, action, member):
        mean = 0.9 * obs + 0.2 * jnp.append(action, action.sum()) + 0.1 * member.astype(obs.dtype)
        return Prediction(mean, jnp.full_like(mean, self.std), obs[:2] @ action, jax.nn.sigmoid(1.0 + obs[0]))


class Followed(Policy):
    """A Gaussian policy whose mean depends on the state."""

    log_sigma: float = 0.0

    def __call__(self, problem, key):
        return Normal(jnp.tanh(problem.obs[:2]), jnp.full(2, self.log_sigma))


def imagined(horizon, lam=0.9, members=1, beta=0.0, std=0.0, log_sigma=-1.0):
    """Returns of imagined steps that follow a Gaussian."""
    policy, returns = Followed(None, Gaussian(2), log_sigma), Returns(horizon, 0.8, lam, True, members, beta)
    return Imagined(Linear(jnp.asarray([1.0, -0.5, 0.2])), Known(std), policy, Identity(), jnp.asarray(1.0), returns)


def problem(estimate=None):
    prior = FixedGaussian(jnp.asarray([0.1, -0.2]), jnp.asarray([0.7, 0.7]))
    return Problem(jnp.asarray([0.5, -1.0, 0.2]), prior, estimate, jnp.asarray(0.3))


@pytest.mark.parametrize("h", [2, pytest.param(3, marks=pytest.mark.long)])
def test_lambda_returns_are_mixtures_of_returns_of_n_steps(h):
    """(1-λ) Σ λ^(n-1) Q^n + λ^(h-1) Q^h, with a KL and a probability of going on that is neither 0 nor 1."""
    lam = 0.7

    def values(u):
        # keys differ with the horizon, so the policy has no noise to speak of; with λ = 1 the last return counts alone
        value = lambda horizon, lam: imagined(horizon, lam, log_sigma=-40.0)(problem(), u, KEY)
        first = imagined(0).critic(problem(), u, KEY)
        return [value(n, 1.0) for n in range(1, h + 1)], value(h, lam), value(0, lam), first

    with jax.enable_x64(True):
        n_step, found, none, first = QUICK(values)(jnp.asarray([0.3, -0.7]))
        mixed = (1 - lam) * sum(lam ** (n - 1) * n_step[n - 1] for n in range(1, h)) + lam ** (h - 1) * n_step[-1]
        assert abs(float(found - mixed)) < 1e-9
        assert len({round(float(each), 3) for each in n_step}) == h
        assert float(none) == float(first)


@pytest.mark.long
def test_returns_under_a_prior_that_becomes_uniform_are_those_without_a_learned_prior():
    """As less of a learned prior is left, Q̂ tends to that under the flat prior, in proportion to what is left. The
    uniform density is the flat prior less d log 2: each imagined step costs α times that, discounted."""

    def value(horizon, prior, u):
        return replace(imagined(horizon), squash=Tanh())(problem()._replace(prior=prior), u, KEY)

    def values(u):
        left = [Tempered(problem().prior, Tanh(), share) for share in (0.5, 0.05)]
        flat, uniform = Flat(Spec(3, 2, Tanh())), Uniform(Spec(3, 2, Tanh()))
        return [value(2, p, u) - value(2, flat, u) for p in left], value(1, uniform, u) - value(1, flat, u)

    with jax.enable_x64(True):
        u = jnp.asarray([0.3, -0.7])
        away, cost = QUICK(values)(u)
        here = problem()
        go_on = Known().predict(here.obs, jnp.tanh(u), jnp.asarray(0)).go_on
        assert abs(float(cost) + 0.8 * float(go_on) * 0.3 * 2 * np.log(2.0)) < 1e-9
        np.testing.assert_allclose(away[0] / away[1], 10.0, rtol=1e-6)
        assert abs(float(away[0])) > 0.01


def test_the_gradient_is_that_of_finite_differences_through_three_steps():
    with jax.enable_x64(True):
        value = QUICK(jax.value_and_grad(lambda u: imagined(3, std=0.2)(problem(), u, KEY)))
        u, step = jnp.asarray([0.3, -0.7]), 1e-6
        slope = value(u)[1]
        for i in range(2):
            away = jnp.zeros(2).at[i].set(step)
            assert abs(float(value(u + away)[0] - value(u - away)[0]) / (2 * step) - float(slope[i])) < 1e-6


@pytest.mark.long
def test_members_take_turns_and_share_their_noise():
    def values(turns):
        one = lambda turn: replace(imagined(2, std=0.2), turn=turn)(problem(), jnp.asarray([0.3, -0.7]), KEY)
        both = imagined(2, std=0.2, members=2, beta=0.5)(problem(), jnp.asarray([0.3, -0.7]), KEY)
        return jax.vmap(one)(turns), both

    one, both = QUICK(values)(jnp.arange(3.0))
    assert abs(float(both - ((one[1] + one[2]) / 2 - 0.5 * abs(one[1] - one[2]) / 2))) < 1e-5
    assert len(set(map(float, one))) == 3


@pytest.mark.long
def test_returns_of_n_steps_of_the_true_model_are_unbiased():
    """On soft LQR, with the critic of the policy that is followed, Q̂ of any horizon has the mean Q^π."""
    x = lqr.problem(prior=True)
    gain, sigma = np.array([[-0.3, 0.1], [0.0, -0.2]]), np.diag([0.3, 0.2])
    p, c = lqr.value(x, gain, sigma)
    spread, (k_p, s_p) = np.sqrt(np.diag(sigma)), x.prior

    class Truth:
        members = 1

        def predict(self, obs, action, member):
            mean = jnp.asarray(x.a) @ obs + jnp.asarray(x.b) @ action
            reward = -0.5 * (obs @ jnp.asarray(x.q) @ obs + action @ jnp.asarray(x.r) @ action)
            return Prediction(mean, jnp.full(2, 0.1), reward, jnp.ones(()))

    class TrueQ(Linear):
        def __call__(self, problem, action, key):
            found = Truth().predict(problem.obs, action, jnp.asarray(0))
            return found.reward + x.gamma * (-0.5 * found.mean @ p @ found.mean - 0.5 * np.trace(p @ x.w) + c)

    class Gain(Policy):
        def __call__(self, problem, key):
            return Normal(jnp.asarray(gain) @ problem.obs, jnp.log(jnp.asarray(spread)))

    class Prior(FixedGaussian):
        def __call__(self, obs):
            return Normal(jnp.asarray(k_p) @ obs, 0.5 * jnp.log(jnp.asarray(np.diag(s_p))))

    with jax.enable_x64(True):
        u, obs = jnp.asarray([0.4, -0.2]), jnp.asarray([1.0, -0.5])
        prior = Prior(jnp.zeros(2), jnp.ones(2))
        critic = TrueQ(jnp.zeros(3))
        for horizon, lam in ((1, 1.0), (3, 0.7)):
            returns = Returns(horizon, x.gamma, lam)
            estimate = Imagined(critic, Truth(), Gain(None, Gaussian(2)), Identity(), jnp.zeros(()), returns)
            here = Problem(obs, prior, estimate, jnp.asarray(x.alpha))
            values = QUICK(jax.vmap(ft.partial(estimate, here, u)))(jax.random.split(KEY, 20_000))
            error = float(values.std()) / len(values) ** 0.5
            assert abs(float(values.mean()) - float(critic(here, u, KEY))) < 4 * error


def test_moments_are_those_of_all_batches():
    rng = np.random.default_rng(0)
    batches = (rng.normal(size=(200, 16, 2)) * [3.0, 1e-3] + [100.0, 0.0]).astype(np.float32)

    def step(carry, batch):
        moments, count = carry
        return (moments.moved(batch, 1.0 / (count + 1.0)), count + 1.0), None

    start = Moments(jnp.zeros(2), jnp.ones(2)), jnp.zeros(())
    (found, _), _ = QUICK(lambda batches: jax.lax.scan(step, start, batches))(jnp.asarray(batches))
    wide = batches.astype(np.float64).reshape(-1, 2)
    np.testing.assert_allclose(found.mean, wide.mean(0), rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(found.std, wide.std(0), rtol=1e-4)


@pytest.mark.long
def test_moments_of_an_ensemble_are_those_of_ten_thousand_batches():
    """As an update moves them: by the optimiser of the whole critic, in float32, beside networks that learn."""
    model = WorldModel(Linear(jnp.zeros(3)), ensemble(SPEC, (4,), 1, key=KEY))
    learned, count = learn(model, optimiser(model, adam(1e-3), 1e-3)), 10_000
    scale, shift = jnp.asarray([[3.0, 1e-2, 1.0]]), jnp.asarray([[100.0, 0.0, -5.0]])

    def data(key):
        steps = steps_of(key, 16)
        return steps._replace(obs=steps.obs * scale + shift, next_obs=steps.next_obs * scale + shift)

    def step(learned, key):
        rows_ = data(key)
        return learned.descend(lambda model: model.dynamics.loss(rows_))[0].step(jnp.asarray(True)), None

    keys = jax.random.split(KEY, count)
    found = jax.jit(lambda: jax.lax.scan(step, learned, keys)[0])()
    wide = np.asarray(jax.jit(jax.vmap(lambda key: data(key).obs))(keys), np.float64).reshape(-1, 3)
    now = found.model.dynamics
    assert float(now.updates) == count
    np.testing.assert_allclose(now.states.mean, wide.mean(0), rtol=1e-4, atol=1e-4 * wide.std(0).min())
    np.testing.assert_allclose(now.states.std, wide.std(0), rtol=1e-4)


def test_what_does_not_vary_is_not_divided():
    fixed = Moments(jnp.asarray([5.0, 0.0]), jnp.asarray([0.0, 2.0]))
    np.testing.assert_array_equal(fixed.scaled(jnp.asarray([5.0, 4.0])), [0.0, 2.0])


def steps_of(key, size):
    """Steps of a linear system with noise of 0.1, each of them the last of its episode by a time limit."""
    k = jax.random.split(key, 3)
    obs, u = jax.random.normal(k[0], (size, 3)), jax.random.normal(k[1], (size, 2))
    after = 0.9 * obs + 0.2 * jnp.tanh(u)[:, :1] + 0.1 * jax.random.normal(k[2], obs.shape)
    return Transition(obs, u, obs[:, 0] + 0.1 * jax.random.normal(k[2], (size,)), jnp.ones(size), after, jnp.ones(size))


STEPS = steps_of(make_key(1), 64)


def test_the_gradient_of_a_member_touches_no_other():
    model = ensemble(SPEC, (8,), 2, key=KEY)

    def first(model, rows):
        only = replace(model, nets=(model.nets[0], jax.lax.stop_gradient(model.nets[1])))
        return only.loss(rows)[0]

    one = QUICK(jax.grad(lambda model: first(model, STEPS)))(model)
    both = QUICK(jax.grad(lambda model: model.loss(STEPS)[0]))(model)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5), one.nets[0], both.nets[0])
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(one.nets[1]))
    assert any((leaf != 0).any() for leaf in jax.tree.leaves(both.nets[1]))


def test_a_time_limit_is_no_end():
    """Every step of `steps` is the last of its episode, and none is terminal."""
    model = ensemble(SPEC, (8,), 1, key=KEY)
    ends = QUICK(lambda rows: model.loss(rows)[1]["model/ends"])
    assert ends(STEPS) < 0.02
    assert ends(STEPS._replace(discount=jnp.zeros(64))) > 4


def test_a_model_moves_in_its_turn_alone():
    tx, theta = in_turn(2, adam(0.1)), jnp.zeros(1)
    state, moved = tx.init(theta), []
    for sound in (True, False, True, True):
        step, state = tx.update(jnp.ones(1), state, theta, sound=jnp.asarray(sound))
        moved.append(bool(step[0] != 0))
    assert moved == [True, False, False, True]


def test_predictions_stay_near_the_data():
    model = replace(ensemble(SPEC, (8,), 1, key=KEY), targets=Moments(jnp.full(4, 1e3), jnp.ones(4)))
    found = QUICK(lambda obs: model.predict(obs, jnp.zeros(2), jnp.asarray(0)).mean)(jnp.zeros(3))
    np.testing.assert_array_equal(found, jnp.full(3, 10.0))
    far = STEPS._replace(next_obs=jnp.full((64, 3), 1e4))
    moments = Moments(jnp.zeros(3), jnp.ones(3))
    known = replace(model, states=moments, updates=jnp.asarray(1e6))
    assert float(QUICK(lambda rows: known.loss(rows)[1]["model/outside"])(far)) == 1.0


def test_parts_that_are_known_are_not_predicted():
    model = replace(
        ensemble(SPEC, (8,), 1, key=KEY),
        known_reward=lambda obs, action, after: jnp.asarray(7.0),
        known_go_on=lambda obs, action, after: jnp.asarray(0.25),
    )
    found = QUICK(lambda obs: model.predict(obs, jnp.zeros(2), jnp.asarray(0)))(jnp.zeros(3))
    assert (float(found.reward), float(found.go_on)) == (7.0, 0.25)


TRACES = []


@QUICK
def update(agent, batch, key):
    TRACES.append(1)
    return em.update(agent, batch, key)


@ft.cache
def trained():
    """An `MVE` after three updates."""
    agent = MVE(**SMALL).init(SPEC, KEY)
    for t in range(3):
        agent, info = update(agent, rows.batch(t), make_key(t))
        assert info["skipped"] == 0
    return agent


def equal(one, other):
    pairs = zip(*map(jax.tree.leaves, (one, other)), strict=True)
    return all(np.array_equal(x, y) for x, y in pairs)


@pytest.mark.long
def test_an_update_is_compiled_once_and_moves_all_parts_of_the_model():
    agent, fresh = trained(), MVE(**SMALL).init(SPEC, KEY)
    assert len(TRACES) == 1
    assert not [leaf for leaf in jax.tree.leaves(agent) if leaf.weak_type]
    now, before = agent.likelihood.model.dynamics, fresh.likelihood.model.dynamics
    assert not any(equal(one, other) for one, other in zip(now.nets, before.nets, strict=True))
    states = np.concatenate([np.asarray(rows.batch(t).obs, np.float64).reshape(-1, 3) for t in range(3)])
    np.testing.assert_allclose(now.states.mean, states.mean(0), atol=1e-5)
    np.testing.assert_allclose(now.states.std, states.std(0), atol=1e-5)
    assert float(now.updates) == 3


@pytest.mark.long
def test_without_imagined_steps_a_row_is_the_row_without_a_model_bit_for_bit():
    """As it is compiled in a run: the flags of these tests fuse sums of two programs in different orders."""
    flags = ("xla_cpu_use_fusion_emitters", True), ("xla_backend_optimization_level", 3)
    options = dict([*flags, ("xla_llvm_disable_expensive_passes", False)])
    step = jax.jit(em.update, compiler_options=options)
    agents = [SAC(hidden_sizes=(8, 8)).init(SPEC, KEY), MVE(horizon=0, **SMALL).init(SPEC, KEY)]
    for t in range(3):
        agents = [step(agent, rows.batch(t), make_key(t))[0] for agent in agents]
    plain, beside = agents
    assert equal(plain.inference, beside.inference)
    assert equal(plain.temperature, beside.temperature)
    assert equal(plain.likelihood.model, beside.likelihood.model.critic)
    assert equal(plain.likelihood.slow, beside.likelihood.slow.critic)


def test_without_imagined_steps_a_row_starts_as_the_row_without_a_model():
    plain, beside = SAC(hidden_sizes=(8, 8)).init(SPEC, KEY), MVE(horizon=0, **SMALL).init(SPEC, KEY)
    assert beside.view is as_it_is
    assert equal(plain.inference, beside.inference)
    assert equal(plain.likelihood.model, beside.likelihood.model.critic)


@pytest.mark.long
def test_targets_have_no_imagined_steps():
    agent = trained()
    without = replace(agent, view=as_it_is)

    def values(agent):
        target = agent.bootstrap(agent).value(rows.arriving(jnp.ones(3)), KEY)
        problem = agent.acting_problem(jnp.ones(3), KEY)
        return target, problem.likelihood(problem, jnp.ones(2), KEY)

    seen, plain = QUICK(values)(agent), QUICK(values)(without)
    np.testing.assert_allclose(seen[0], plain[0], rtol=1e-6)
    assert abs(float(seen[1] - plain[1])) > 1e-3


@pytest.mark.long
def test_inference_moves_its_own_parameters_alone():
    """Model, critic and the policy of imagined steps are constants of the E-step."""
    agent = trained()

    def value(parts):
        likelihood = replace(agent.likelihood, model=parts[0], opt_state=(), count=jnp.zeros(()))
        now = replace(agent, likelihood=likelihood, inference=replace(agent.inference, model=parts[1]))
        problem = now.problem_from(now.inference.model, now.training_critic(now.likelihood), jnp.ones(3), KEY)
        return problem.likelihood(problem, jnp.ones(2), KEY)

    slope = QUICK(jax.grad(value))((agent.likelihood.model, agent.inference.model))
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(slope))
    again = update(agent, rows.batch(5), KEY)[0]
    assert not equal(agent.inference.model, again.inference.model)


@pytest.mark.long
def test_a_prediction_that_is_not_finite_skips_the_update():
    agent = trained()
    nets = jax.tree.map(lambda leaf: jnp.full_like(leaf, jnp.nan), agent.likelihood.model.dynamics.nets)
    bad = replace(agent.likelihood.model, dynamics=replace(agent.likelihood.model.dynamics, nets=nets))
    broken = replace(agent, likelihood=replace(agent.likelihood, model=bad))
    after, info = update(broken, rows.batch(5), KEY)
    assert info["skipped"] == 1
    assert equal(after.inference, broken.inference)


def test_a_run_says_that_it_clips_what_its_model_learns_from_and_dumps_the_model():
    agent, said = jax.eval_shape(lambda key: MVE(**SMALL).init(SPEC, key), KEY), []
    note_agent(agent, True, said.append)
    assert "clips observations" in said[0]
    note_agent(agent, False, said.append)
    note_agent(jax.eval_shape(lambda key: SAC(hidden_sizes=(8,)).init(SPEC, key), KEY), True, said.append)
    assert len(said) == 1
    leaves = named_leaves(agent)  # what a checkpoint and the dump of a run that halts have
    assert {part for part in ("nets", "states", "targets") if any(part in name for name in leaves["params"])} == {
        *("nets", "states", "targets")
    }


@pytest.mark.long
def test_over_choices_the_sum_over_the_first_action_is_exact():
    """V(s) = Σ_a π(a) (Q̂(s, a) - α log π(a)), and its gradient is that of this sum; later actions are samples."""
    spec = Spec(3, 3, OneHot())
    agent = MVE(**SMALL).init(spec, KEY)
    obs = jnp.asarray([0.3, -1.0, 0.5])

    def values(agent):
        q, problem, _ = agent.infer(agent.inference.model, agent.training_critic(agent.likelihood), obs, KEY)
        whole = soft_value(q, problem, KEY, 1)[0]
        each = values_of(problem, jnp.eye(3), jax.random.split(KEY)[1])
        return whole, (jnp.exp(q.log_probs) * (each - problem.alpha * q.log_probs)).sum()

    whole, by_hand = QUICK(values)(agent)
    np.testing.assert_allclose(whole, by_hand, rtol=1e-5)
    steps = rows.batch(spec=spec)
    choice = jax.nn.one_hot(jnp.arange(rows.BATCH) % 3, 3)[:, None]
    _, info = QUICK(em.update)(agent, steps._replace(action=choice), KEY)
    assert info["skipped"] == 0


@pytest.mark.long
def test_another_optimiser_follows_the_policy_that_was_trained():
    agent = trained()
    changed = with_inference(agent, GradientAscent(2, 2))
    estimates = [each.view(each, each.acting_critic(each.likelihood)) for each in (agent, changed)]
    assert equal(*estimates)
    assert jax.tree.structure(estimates[0]) == jax.tree.structure(estimates[1])
    assert isinstance(changed.acting(changed.inference.model), GradientAscent)


@pytest.mark.long
def test_an_agent_is_measured_on_returns_of_imagined_steps_or_on_its_critic():
    agent = trained()
    with_steps, without = measured(agent), measured(agent, imagined=False)
    assert (estimate_name(with_steps), estimate_name(without)) == ("returns of 2 imagined steps", "the critic")
    plain = SAC(hidden_sizes=(8, 8)).init(SPEC, KEY)
    assert measured(plain) is plain
    obs, u = jnp.ones((4, 3)), jnp.ones((4, 2))
    values = [np.asarray(calibration._predict(each, obs, u)[0]) for each in (with_steps, without)]
    assert (values[0] != values[1]).all()
    by_hand = agent.likelihood.model.critic(agent.problem(agent.likelihood.model, obs[0]), u[0], KEY)
    np.testing.assert_allclose(values[1], float(by_hand), rtol=1e-5)


def test_iterative_inference_is_imagined_to_follow_its_start():
    agent = IterativeMVE(**SMALL).init(SPEC, KEY)
    found = agent.view(agent, agent.training_critic(agent.likelihood))
    assert equal(found.policy.inference, agent.inference.model.start)
    assert type(agent.targeting(agent.inference.model)) is type(agent.inference.model.start)
    plain = IterativeSAC(hidden_sizes=(8, 8), persist=False).init(SPEC, KEY)
    beside = IterativeMVE(horizon=0, **SMALL).init(SPEC, KEY)
    assert equal(plain.inference, beside.inference)
    assert beside.targeting == plain.targeting


@pytest.mark.parametrize(
    ("row", "settings"),
    [
        (MVE, {"horizon": -1}),
        (MVE, {"horizon": 51}),
        (MVE, {"members": 0}),
        (MVE, {"members": 2, "members_used": 3}),
        (MVE, {"model_beta": 1.0}),
        (MVE, {"pessimism": "difference"}),
        (MVE, {"model_every": 0}),
        (MVE, {"model_rate": 0.0}),
        (MVE, {"model_hidden_sizes": ()}),
        (IterativeMVE, {"persist": True}),
        (IterativeMVE, {"direct_start": False}),
        (Compose, {"likelihood": "model", "inference": "gradient"}),
        (Compose, {"likelihood": "model", "inference": "iterative"}),
        (Compose, {"likelihood": "model", "model_beta": 1.0}),
        (Compose, {"likelihood": "model", "pessimism": "difference"}),
        (Compose, {"likelihood": "model", "inference": "advantages", "prior": "learned", "act_with": "prior"}),
    ],
)
def test_settings_that_cannot_work_are_refused(row, settings):
    with pytest.raises(UsageError):
        row(**settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"inference": "gradient", "start": "direct"},
        {"inference": "gradient", "horizon": 0},
        {"posterior": "boltzmann", "inference": "closed-form", "prior": "learned", "kl_in_value": False},
    ],
)
def test_settings_that_work_are_taken(settings):
    Compose(likelihood="model", **settings)


def fitted(model, updates, size):
    """A model after updates on fresh steps of the linear system."""
    learned = learn(model, adam(3e-3)), learn(model, FOLLOW)

    def step(carry, key):
        nets, moments = carry
        rows_ = steps_of(key, size)
        nets, moments = (each.descend(lambda model: model.loss(rows_))[0].step(jnp.asarray(True)) for each in carry)
        joined = replace(moments.model, nets=nets.model.nets)
        return (replace(nets, model=joined), replace(moments, model=joined)), None

    return jax.jit(lambda: jax.lax.scan(step, learned, jax.random.split(KEY, updates))[0])()[0].model


@pytest.mark.long
def test_a_model_of_a_linear_system_knows_its_noise():
    """The density is within .05 nats a number of the true one, and 90 % intervals hold 88 to 92 % of what happens."""
    model = fitted(ensemble(SPEC, (32, 32), 2, key=KEY), 3_000, 128)
    fresh = steps_of(make_key(9), 4096)
    assert isinstance(model, Ensemble)
    action = jax.vmap(model.squash)(fresh.action)
    found = jax.vmap(lambda s, a: model.predict(s, a, jnp.asarray(1)))(fresh.obs, action)
    apart = np.asarray((fresh.next_obs - found.mean) / found.std)
    nll = (0.5 * apart**2 + np.log(np.asarray(found.std))).mean() + 0.5 * np.log(2 * np.pi)
    assert abs(nll - (0.5 * np.log(2 * np.pi * np.e) + np.log(0.1))) < 0.05
    assert 0.88 < (np.abs(apart) < 1.6449).mean() < 0.92
    wide = np.asarray(fresh.obs, np.float64)
    np.testing.assert_allclose(model.states.std, wide.std(0), rtol=0.05)
