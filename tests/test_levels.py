"""Policies of two levels: the KL of both levels, what gets a gradient, what replay stores, and the row."""

import functools as ft
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from estep import Hierarchical, Spec, make_key
from estep.core import em
from estep.core.acting import act_with_memo
from estep.core.batch import flatten
from estep.core.bootstrap import slow_posterior_value
from estep.core.objective import soft_value
from estep.core.types import OneHot, Tanh
from estep.e_steps.climb import climb_each_state
from estep.e_steps.levels import latent_memo, value_of_levels
from estep.errors import UsageError
from estep.families.gaussian import Normal, gaussian_kl
from estep.families.levels import OverLatents, TwoLevels
from estep.inference.levels import Following
from estep.policy.starts.from_run import PARTS, frozen_by
from estep.priors.levels import fit_levels
from estep.priors.uniform import Uniform
from estep.runs.leaves import skeleton
from oracles import rows

SPEC = Spec(obs_dim=5, action_dim=2, tasks=2)
CHOICES = Spec(obs_dim=5, action_dim=3, squash=OneHot(), tasks=2)
OBS, KEY = jnp.asarray([0.3, -0.5, 0.2, 1.0, 0.0]), make_key(0)
SMALL = {"hidden_sizes": (8,), "latent": 2, "samples": 2, "unroll": 2}


@ft.cache
def start(row, spec=SPEC):
    """A fresh agent."""
    return rows.compiled(lambda key: row.init(spec, key))(KEY)


def batch(spec=SPEC):
    """Sequences of two steps that were taken by z."""
    steps = rows.batch(size=4, spec=spec)
    steps = jax.tree.map(lambda leaf: jnp.concatenate([leaf, leaf + 0.0], axis=1), steps)
    tasks = jnp.tile(jnp.eye(2)[jnp.arange(4) % 2][:, None], (1, 2, 1))
    put = lambda obs: obs.at[..., -2:].set(tasks)
    action = jax.nn.one_hot(steps.action.argmax(-1), spec.action_dim) if spec.factors else steps.action
    return steps._replace(obs=put(steps.obs), next_obs=put(steps.next_obs), action=action)


# The KL of both levels, where z and u are one number each and everything is linear and Gaussian


def linear(rng):
    """q and p of z and of u given z: (m, s) of z, and (a, b, t) of u ~ N(a + b z, t²)."""
    return [
        (rng.normal(), np.exp(rng.normal(scale=0.4)), *rng.normal(size=2), np.exp(rng.normal(scale=0.4))) for _ in "qp"
    ]


def joint(m, s, a, b, t):
    """Mean and covariance of (z, u)."""
    return np.array([m, a + b * m]), np.array([[s * s, b * s * s], [b * s * s, b * b * s * s + t * t]])


def kl(q, p):
    """KL of two Gaussians in any dimension."""
    (mq, vq), (mp, vp) = q, p
    quadratic = np.trace(np.linalg.solve(vp, vq)) + (mp - mq) @ np.linalg.solve(vp, mp - mq)
    return 0.5 * (quadratic - len(mq) + np.linalg.slogdet(vp)[1] - np.linalg.slogdet(vq)[1])


NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(8)


def library_kl(q, p, nodes):
    """KL of both levels by the library, at given numbers of noise for z, one at a time."""
    (m, s, a, b, t), (pm, ps, pa, pb, pt) = q, p
    one = lambda x: jnp.asarray([x], jnp.float64)
    normal = lambda mean, sigma: Normal(one(mean), jnp.log(one(sigma)))
    prior = OverLatents(normal(pm, ps), lambda z: Normal(pa + pb * z, jnp.log(one(pt))), 0.0, Tanh(), 1.0)

    def at(noise):
        z = one(m + s * noise)
        low = Normal((a + b * z)[None], jnp.log(one(t))[None])
        policy = TwoLevels(normal(m, s), z[None], one(0.0), jnp.zeros((), jnp.float64), normal(a, t), low)
        return policy.level_kl(prior)

    return np.asarray([at(noise) for noise in nodes])


@pytest.mark.parametrize("seed", range(2))
def test_the_kls_of_both_levels_are_that_of_the_joint_and_bound_that_of_the_action(seed):
    q, p = linear(np.random.default_rng(seed))
    with jax.enable_x64(True):
        right = WEIGHTS / WEIGHTS.sum() @ library_kl(q, p, NODES)
    np.testing.assert_allclose(right, kl(joint(*q), joint(*p)), rtol=0, atol=1e-9)
    marginal = lambda mean, v: (mean[1:], v[1:, 1:])
    left = kl(marginal(*joint(*q)), marginal(*joint(*p)))
    assert left <= right + 1e-9
    assert left < right - 1e-6


def test_the_bound_is_tight_where_both_have_one_posterior_of_the_latent():
    """p(z|u) = q(z|u): a prior that is q seen through another density of u."""
    (mean, v), shift, wide = joint(0.3, 0.8, 0.1, 1.2, 0.5), 0.4, 1.3
    gain = v[0, 1] / v[1, 1]  # q(z|u) = N(mean_z + gain (u - mean_u), rest)
    rest, pu, vu = v[0, 0] - gain * v[0, 1], mean[1] + shift, v[1, 1] * wide
    pz, vz, cov = mean[0] + gain * shift, rest + gain * gain * vu, gain * vu
    b = cov / vz
    p = pz, np.sqrt(vz), pu - b * pz, b, np.sqrt(vu - b * cov)
    with jax.enable_x64(True):
        right = WEIGHTS / WEIGHTS.sum() @ library_kl((0.3, 0.8, 0.1, 1.2, 0.5), p, NODES)
    one = lambda x: np.array([x])
    left = kl((one(mean[1]), v[1:, 1:]), (one(pu), np.array([[vu]])))
    np.testing.assert_allclose(left, right, atol=1e-9)


def test_a_prior_with_memory_is_an_ar_1_process():
    """Its stationary density is that without the z before, and the KL is to the density after it."""
    prior = OverLatents(Normal(jnp.zeros(2), jnp.zeros(2)), None, 0.8, Tanh(), 1.0)
    before = jnp.asarray([0.5, -1.0])
    given = prior.given(before, jnp.ones(()))
    np.testing.assert_allclose(given.mu, 0.8 * before, rtol=1e-6)
    np.testing.assert_allclose(jnp.exp(given.log_sigma), 0.6, rtol=1e-6)
    np.testing.assert_array_equal(prior.given(before, jnp.zeros(())).mu, jnp.zeros(2))
    # E over the z before: mean 0 and variance ρ² + 1 - ρ² = 1
    assert 0.8**2 + float(jnp.exp(2 * given.log_sigma)[0]) == pytest.approx(1.0)


# Inference


def solved(agent, obs=OBS, inference=None):
    """q in one state with its problem."""
    problem = agent.problem(agent.likelihood.model, obs)
    return agent.posterior((inference or agent.inference.model)(problem, agent.posterior, KEY).lam), problem


@pytest.mark.long
@pytest.mark.parametrize("spec", [SPEC, CHOICES], ids=["squashed", "choices"])
def test_the_value_charges_the_kl_of_both_levels_and_pays_the_entropy_of_the_mixture(spec):
    agent = start(Hierarchical(**SMALL, kl_cost=0.3, entropy_cost=0.1, low_level="own", latent_prior="learned"), spec)
    q, problem = solved(agent)
    p = problem.prior(OBS)
    value, draws = soft_value(q, problem, KEY, 2)
    plain = q.marginal.draw(jax.random.split(KEY)[0], 2, Uniform(spec)(OBS))
    entropy = -(plain.weight @ jax.vmap(lambda u: q.log_prob(u) - spec.squash.log_det(u))(plain.action))
    low = [gaussian_kl, lambda a, b: jnp.exp(a.log_probs) @ (a.log_probs - b.log_probs)][bool(spec.factors)]
    each = [low(jax.tree.map(lambda leaf, i=i: leaf[i], q.low), p.low(q.z[i])) for i in range(2)]
    levels = gaussian_kl(q.high, p.high) + (each[0] + each[1]) / 2
    q_hat = jax.vmap(lambda u: problem.likelihood(problem, u, KEY))(draws.action)
    np.testing.assert_allclose(value, draws.weight @ q_hat - 0.3 * levels + 0.1 * entropy, rtol=1e-4, atol=1e-5)


@pytest.mark.long
def test_the_gradient_of_the_value_reaches_both_levels_and_a_frozen_one_not():
    agent = start(Hierarchical(**SMALL, entropy_cost=0.0))
    free = lambda agent: replace(agent, temperature=jax.tree.map(jnp.zeros_like, agent.temperature))
    problem = free(agent).problem(agent.likelihood.model, OBS)  # without a price of the KL: through the action alone
    for frozen in (False, True):
        model = replace(agent.inference.model, frozen=frozen)
        value = lambda model: soft_value(agent.posterior(model(problem, agent.posterior, KEY).lam), problem, KEY, 2)[0]
        gradient = rows.compiled(jax.grad(value))(model)
        assert all((leaf != 0).any() for leaf in jax.tree.leaves(gradient.top.rest))
        assert any((leaf != 0).any() for leaf in jax.tree.leaves(gradient.bottom)) != frozen


def test_the_lower_level_does_not_see_the_task_unless_it_is_the_policys_own():
    other = OBS.at[-2:].set(OBS[-2:][::-1])
    z = jnp.asarray([0.5, -1.0])
    for level, same in (("shared", True), ("own", False)):
        agent = start(Hierarchical(**SMALL, low_level=level))
        lams = [agent.inference.model.bottom(obs, z, agent.posterior.low) for obs in (OBS, other)]
        assert bool((lams[0] == lams[1]).all()) == same
        assert (agent.prior.model.bottom is None) == same
        tops = [agent.inference.model.latent(obs)[0] for obs in (OBS, other)]
        assert (tops[0] != tops[1]).any()


def test_the_deterministic_action_is_that_of_the_mean_of_z():
    agent = start(Hierarchical(**SMALL))
    q, _ = solved(agent)
    lam = agent.inference.model.bottom(OBS, q.high.mu, agent.posterior.low)
    np.testing.assert_allclose(q.mode(), lam[:2], rtol=1e-6)


def test_an_agent_acts_by_one_z_and_stores_it_with_the_density_of_both():
    agent = start(Hierarchical(**SMALL))
    u, _, memo = rows.compiled(act_with_memo)(agent, jnp.stack([OBS, -OBS]), KEY)
    for i, obs in enumerate((OBS, -OBS)):
        mu, log_sigma = agent.inference.model.latent(obs)
        low = agent.posterior.low(agent.inference.model.bottom(obs, memo["latent"][i], agent.posterior.low))
        expected = Normal(mu, log_sigma).log_prob(memo["latent"][i]) + low.log_prob(u[i])
        np.testing.assert_allclose(memo["log_prob"][i, 0], expected, rtol=1e-4)
    np.testing.assert_array_equal(memo["known"], jnp.ones((2, 1)))
    random = Uniform(SPEC).density
    warm = latent_memo(agent, random, u[0])
    assert float(warm["known"][0]) == 0.0
    np.testing.assert_allclose(warm["log_prob"][0], random.log_prob(u[0]))


@pytest.mark.long
def test_the_correction_of_a_step_compares_densities_of_the_same_things():
    """On the policy that acted, the ratio is 1 where z is known; else it is that of the action alone."""
    agent = start(Hierarchical(**SMALL))
    u, _, memo = rows.compiled(act_with_memo)(agent, OBS[None], KEY)
    step = jax.tree.map(lambda leaf: leaf[0, 0], batch())._replace(obs=OBS, action=u[0])
    step = step._replace(memo=jax.tree.map(lambda leaf: leaf[0], memo))
    bootstrap = value_of_levels(agent)
    np.testing.assert_allclose(bootstrap.log_prob(step, KEY), memo["log_prob"][0, 0], rtol=1e-4)
    unknown = step._replace(memo=step.memo | {"known": jnp.zeros(1)})
    np.testing.assert_allclose(bootstrap.log_prob(unknown, KEY), slow_posterior_value(agent).log_prob(unknown, KEY))


@pytest.mark.long
def test_the_next_state_is_charged_for_leaving_the_z_by_which_it_was_reached():
    agent = start(Hierarchical(**SMALL, rho=0.9, kl_cost=0.5, entropy_cost=0.0))
    step = jax.tree.map(lambda leaf: leaf[0, 0], batch())
    mu, log_sigma = agent.inference.slow.latent(step.next_obs)
    values = []
    for z in (mu, mu + 3.0):
        values.append(
            value_of_levels(agent).value(step._replace(memo=step.memo | {"latent": z, "known": jnp.ones(1)}), KEY)
        )
    cost = [
        gaussian_kl(
            Normal(mu, log_sigma),
            OverLatents(Normal(jnp.zeros(2), jnp.zeros(2)), None, 0.9, Tanh(), 1.0).given(z, jnp.ones(())),
        )
        for z in (mu, mu + 3.0)
    ]
    np.testing.assert_allclose(values[0] - values[1], 0.5 * (cost[1] - cost[0]), rtol=1e-3)


@pytest.mark.long
def test_within_a_sequence_the_e_step_knows_the_z_before_and_not_across_an_end():
    agent = start(Hierarchical(**SMALL, rho=0.9, entropy_cost=0.0))
    steps = batch()._replace(last=jnp.zeros((4, 2)).at[1, 0].set(1.0))
    draws = rows.compiled(lambda agent, steps: agent.e_step(agent, steps, KEY)[1])(agent, steps)
    rows_of = flatten(steps)
    for row in range(8):
        known = row % 2 == 1 and row != 3
        before = rows_of.memo["latent"][row - 1] if known else jnp.zeros(2)
        mu, log_sigma = agent.inference.model.latent(rows_of.obs[row])
        expected = gaussian_kl(
            Normal(mu, log_sigma), agent.prior.slow(rows_of.obs[row]).given(before, jnp.asarray(float(known)))
        )
        np.testing.assert_allclose(draws.log_ratio[row, 0], expected, rtol=1e-3, atol=1e-5)


@pytest.mark.long
def test_without_memory_the_e_step_is_that_of_every_state():
    agent = start(Hierarchical(**SMALL))
    steps = rows.compiled(lambda agent, steps: agent.e_step(agent, steps, KEY)[1])
    plain = replace(agent, e_step=climb_each_state)
    jax.tree.map(np.testing.assert_array_equal, steps(agent, batch()), steps(plain, batch()))


LOWER = pytest.param({"low_level": "own"}, marks=pytest.mark.long, id="lower")


@pytest.mark.parametrize("changes", [pytest.param({"latent_prior": "learned"}, id="upper"), LOWER])
def test_the_m_step_makes_the_kl_of_both_levels_smaller_and_moves_no_policy(changes):
    agent = start(Hierarchical(**SMALL, learning_rate=1e-2, **changes))

    @rows.compiled
    def fit(agent, obs):
        def one(agent, _):
            after, info = fit_levels(agent, None, obs)
            return em.apply_pending(after)[0], info["m/levels"]

        return jax.lax.scan(one, agent, None, 100)

    after, cost = fit(agent, flatten(batch()).obs)
    assert cost[-1] < 0.7 * cost[0]
    jax.tree.map(np.testing.assert_array_equal, after.inference.model, agent.inference.model)


# The row


@pytest.mark.long
@pytest.mark.parametrize("spec", [SPEC, CHOICES], ids=["squashed", "choices"])
@pytest.mark.parametrize(
    "changes", [{}, {"rho": 0.9, "latent_prior": "learned", "low_level": "own"}], ids=["plain", "all"]
)
def test_an_update_is_finite_and_moves_what_it_is_to_move(spec, changes):
    agent = start(Hierarchical(**SMALL, target_period=1, **changes), spec)
    after, info = rows.compiled(em.update)(agent, batch(spec), KEY)
    assert info["skipped"] == 0
    moved = lambda one, two: any((x != y).any() for x, y in zip(*map(jax.tree.leaves, (one, two)), strict=True))
    assert moved(after.inference.model.top, agent.inference.model.top)
    assert moved(after.inference.model.bottom, agent.inference.model.bottom)
    assert moved(after.inference.target, agent.inference.target)
    assert moved(after.prior.model, agent.prior.model) == bool(changes)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"rho": 0.5, "target": "td0"}, "rho=0.5 needs the z of the step before"),
        ({"rho": 0.5, "unroll": 1}, "rho=0.5"),
        ({"rho": 1.0}, "rho"),
        ({"latent": 0}, "latent"),
        ({"kl_cost": 0.0, "entropy_cost": 0.0}, "the temperature, is 0"),
        ({"freeze_low": "run", "low_level": "own"}, "freeze_low takes a lower level"),
        ({"low_level": "both"}, "low_level"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings, said):
    with pytest.raises(UsageError, match=said) as error:
        Hierarchical(**settings)
    assert error.value.fix


def test_environments_that_do_not_fit_are_refused():
    with pytest.raises(UsageError, match="there is one environment"):
        Hierarchical(**SMALL).init(Spec(3, 2), KEY)
    with pytest.raises(UsageError, match="the place 7"):
        Hierarchical(**SMALL, prior_sees=("7",)).init(SPEC, KEY)
    assert skeleton(Hierarchical(**SMALL, freeze_low="run"), Spec(3, 2)).inference.model.frozen


def test_a_lower_level_is_taken_with_its_slow_copy_and_not_trained():
    donor, agent = start(Hierarchical(**SMALL, learning_rate=1e-2)), start(Hierarchical(**SMALL, freeze_low="run"))
    moved = jax.tree.map(lambda leaf: leaf + 1.0, donor.inference.target)
    part = PARTS["freeze_low"]
    network, seen = part.taken_apart(replace(donor, inference=replace(donor.inference, target=moved)))
    assert seen == part.taken_apart(agent)[1] == (0, 1, 2)
    taken = part.put(agent, network)
    for copy in (taken.inference.model, taken.inference.target):
        jax.tree.map(np.testing.assert_array_equal, copy.bottom.net, network)
    with pytest.raises(UsageError, match="no lower level"):
        part.taken_apart(rows.start("sac"))
    assert frozen_by(Hierarchical(freeze_low="run")) == ("freeze_low", "run")
    assert frozen_by(Hierarchical()) == ("", "")


def test_inference_that_follows_a_z_has_the_same_actions():
    agent = start(Hierarchical(**SMALL))
    followed, _ = solved(agent, inference=Following(agent.inference.model, jnp.ones(2), jnp.ones(())))
    alone, _ = solved(agent)
    jax.tree.map(np.testing.assert_array_equal, followed.low, alone.low)
    np.testing.assert_array_equal(followed.before, jnp.ones(2))
