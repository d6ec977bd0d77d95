"""Agents that act by plans: what reaches the environment, what replay stores, and what is learned from it."""

from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from estep.algorithms import PPSMC, SAC, SMCP
from estep.core import em
from estep.core.acting import act_from_posterior, act_from_prior, act_greedily, act_with_memo
from estep.core.keys import make_key
from estep.core.types import OneHot, Spec, Transition
from estep.e_steps.plans import PLAN, Plan, Report, acting_by, proposing
from estep.e_steps.searches import GAIN, SearchFraction, searched_value, stored_search
from estep.errors import UsageError
from estep.families.gaussian import Normal
from estep.families.particles import exponential, kl_to_equal
from estep.inference.smc import Search
from estep.instruments.play.lockstep import Table, choose
from estep.instruments.play.ways import candidates, direct_way
from estep.policy.actor import memo_of_exploration, memo_widths
from oracles import rows

SPEC, N, E = Spec(3, 2), 6, 4
SMALL = {"hidden_sizes": (8,), "model_hidden_sizes": (8,), "members": 2, "particles": N, "horizon": 3}
OBS = jnp.asarray([[0.1, -0.4, 0.7], [1.0, 0.0, -1.0], [0.0, 0.5, 0.5], [-0.3, 0.3, 2.0]])
TRACED = []
"""The agents for which acting was traced."""
greedy, improve, search_of = (rows.compiled(program) for program in (act_greedily, em.update, stored_search))


@rows.compiled
def act(agent, obs, key):
    TRACED.append((agent.behave, agent.spec))
    return act_with_memo(agent, obs, key)


@pytest.fixture(scope="module")
def smcp():
    row = SMCP(**SMALL)
    return rows.compiled(lambda key: row.init(SPEC, key))(make_key(0))


@pytest.fixture(scope="module")
def pp_smc():
    row = PPSMC(**SMALL, samples=3, search_fraction=0, plan_members=0)  # so that a bad member is always asked
    return rows.compiled(lambda key: row.init(SPEC, key))(make_key(0))


@pytest.fixture(scope="module")
def planned(pp_smc):
    """A batch whose first three steps were planned, and whose fourth is random: what replay stores of them."""
    rng, random = np.random.default_rng(0), memo_of_exploration(pp_smc, jnp.zeros((1, 2)))
    advantage = rng.normal(size=(3, N))
    weight = np.exp(advantage) / np.exp(advantage).sum(1, keepdims=True)
    search = {"advantage": advantage, "weight": weight, "roots": rng.normal(size=(3, 2 * N))}
    search |= {PLAN: np.tile([1.0, 0.0, 3.0, 4.0, 0.0, 0.0], (3, 1))}
    memo = {name: jnp.concatenate([jnp.asarray(search[name], jnp.float32), random[name]]) for name in random}
    memo = {name: value[:, None] for name, value in memo.items()}
    ones = jnp.ones((E, 1))
    return Transition(OBS[:, None], jnp.zeros((E, 1, 2)), -ones, ones, OBS[:, None] + 0.1, 0 * ones, memo)


def with_bad_model(agent):
    """The agent with a member of its model that predicts what is not finite."""
    bias = lambda agent: agent.likelihood.model.dynamics.nets[1].biases[-1]
    return eqx.tree_at(bias, agent, jnp.full_like(bias(agent), jnp.nan))


def test_a_plan_that_is_not_finite_never_reaches_the_environment(smcp):
    u, _action, memo = act(with_bad_model(smcp), OBS, make_key(1))
    reports = Report(*np.asarray(memo[PLAN]).T)
    assert np.isfinite(u).all()
    assert (reports.planned == 1).all()
    assert (reports.failed == 1).all()
    assert (reports.ess == 0).all()
    sound = Report(*np.asarray(act(smcp, OBS, make_key(1))[2][PLAN]).T)
    assert (sound.failed == 0).all()
    assert (sound.ess > 1).all()
    assert (sound.roots >= 1).all()


@pytest.mark.long
def test_a_deterministic_plan_that_is_not_finite_is_the_mode_of_the_policy(smcp):
    policy = greedy(acting_by("policy", smcp), OBS, make_key(1))
    np.testing.assert_array_equal(greedy(with_bad_model(smcp), OBS, make_key(1)), policy)
    assert not np.allclose(greedy(smcp, OBS, make_key(1)), policy, atol=1e-3)


def test_the_realised_gain_is_measured_of_the_plan_beside_the_optimisers(smcp, pp_smc):
    assert [(one.optimiser, one.iterations) for one in candidates(smcp, (1, 5))] == [
        *(("semi-amortised", 1), ("semi-amortised", 5), ("plan", N))
    ]
    assert [one.optimiser for one in candidates(pp_smc, (1, 5))] == ["particles", "plan"]
    assert proposing(smcp).behave is act_from_posterior
    assert proposing(proposing(pp_smc)).behave is act_from_prior


@pytest.mark.long
def test_the_gain_of_a_plan_is_that_of_its_heaviest_root(smcp):
    by_policy = replace(smcp, behave=replace(smcp.behave, eval_with="policy"))
    plan = candidates(by_policy)[-1].way
    assert plan.planner == smcp.behave
    found, broken = (
        choose(Table(agent, direct_way(agent), None, make_key(1)), plan, np.asarray(OBS), np.uint32(0))
        for agent in (smcp, with_bad_model(smcp))
    )
    assert (np.abs(found.moved).max(1) > 1e-3).all()
    assert (np.asarray(found.gain) != 0).all()
    np.testing.assert_array_equal(broken.moved, np.zeros((E, 2)))  # the direct action is the mode of the policy
    np.testing.assert_array_equal(broken.gain, np.zeros(E))


@pytest.mark.long
def test_a_search_that_is_not_finite_is_not_learned_from(pp_smc):
    memo = act(with_bad_model(pp_smc), OBS, make_key(1))[2]
    assert all(np.isfinite(value).all() for value in memo.values())
    assert (np.asarray(memo["weight"]) == 0).all()


@pytest.mark.long
def test_evaluation_by_the_policy_is_that_of_the_agent_without_plans(smcp):
    row = SMCP(**SMALL, eval_with="policy")
    agent = rows.compiled(lambda key: row.init(SPEC, key))(make_key(0))
    sac = rows.compiled(lambda key: SAC(hidden_sizes=(8,)).init(SPEC, key))(make_key(0))
    wanted = greedy(sac, OBS, make_key(1))
    np.testing.assert_array_equal(greedy(agent, OBS, make_key(1)), wanted)
    np.testing.assert_array_equal(greedy(acting_by("policy", smcp), OBS, make_key(1)), wanted)
    assert acting_by("plan", agent).behave == smcp.behave
    with pytest.raises(UsageError, match="without plans"):
        acting_by("policy", sac)


@pytest.mark.long
def test_it_learns_as_sac(smcp):
    """The policy, α and the critic take the steps that they take without plans; the model takes its own."""
    sac = rows.compiled(lambda key: SAC(hidden_sizes=(8,)).init(SPEC, key))(make_key(0))
    batch = rows.batch()
    memo = {PLAN: jnp.zeros((*batch.reward.shape, len(Report._fields)))}
    plain, _ = improve(sac, batch, make_key(2))
    own, info = improve(smcp, batch._replace(memo=memo), make_key(2))
    assert info["skipped"] == 0
    assert info["plan/ess"] == 0
    for one, other in ((plain.inference, own.inference), (plain.temperature, own.temperature)):
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-6), one.model, other.model)
    np.testing.assert_allclose(
        jax.tree.leaves(plain.likelihood.model)[0], jax.tree.leaves(own.likelihood.model.critic)[0], rtol=1e-6
    )
    before, after = (jax.tree.leaves(agent.likelihood.model.dynamics.nets)[0] for agent in (smcp, own))
    assert np.abs(before - after).max() > 0


def test_steps_without_a_search_have_no_weight_and_the_mean_weight_is_one(pp_smc, planned):
    _, draws, _memo, info = search_of(pp_smc, planned, make_key(3))
    weight = np.asarray(draws.weight)
    np.testing.assert_allclose(weight.sum(1), [4 / 3, 4 / 3, 4 / 3, 0.0], rtol=1e-5)
    np.testing.assert_allclose(weight[0], 4 / 3 * np.asarray(planned.memo["weight"][0, 0]), rtol=1e-5)
    eta = pp_smc.temperature.model()
    advantage = planned.memo["advantage"][:3, 0]
    wanted = [float(kl_to_equal(exponential(row, eta))) for row in advantage]
    np.testing.assert_allclose(
        (weight * np.asarray(draws.log_ratio)).sum(1), [4 / 3 * kl for kl in wanted] + [0.0], rtol=1e-3
    )
    np.testing.assert_array_equal(draws.action[0].ravel(), planned.memo["roots"][0, 0])
    assert np.abs(np.asarray(draws.action[3])).min() > 0  # drawn anew: zeros would draw the policy to the middle
    assert info["plan/age"] == 0
    assert 1 <= info["e/ess"] <= N


@pytest.mark.long
def test_an_update_fits_the_prior_to_the_searches_and_reports_their_age(pp_smc, planned):
    after, info = improve(pp_smc, planned, make_key(4))
    assert info["skipped"] == 0
    moved = lambda one, other: not np.array_equal(jax.tree.leaves(one)[0], jax.tree.leaves(other)[0])
    for part in ("prior", "likelihood", "temperature", "projection"):
        assert moved(getattr(pp_smc, part).model, getattr(after, part).model), part
    assert improve(after, planned, make_key(5))[1]["plan/age"] == 1
    # η falls while the KL is below its bound
    assert info["m/kl"] < info["m/kl_bound"]
    assert after.temperature.model() < pp_smc.temperature.model()


def test_equal_roots_count_together():
    choices = jnp.asarray([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    nought = jnp.zeros(3)
    search = Search(choices, jnp.log(jnp.asarray([0.4, 0.3, 0.3])), nought, jnp.zeros(()), nought, nought > 0)
    plan = Plan(search, Normal(jnp.zeros(2), jnp.zeros(2)))
    np.testing.assert_array_equal(plan.mode(), [0.0, 1.0])
    unsound = replace(plan, search=search._replace(log_evidence=jnp.asarray(jnp.nan)))
    for action in (unsound.mode(), replace(plan, eval_with="policy").mode()):
        np.testing.assert_array_equal(action, [0.0, 0.0])
    assert np.abs(np.asarray(unsound.sample(make_key(0)))).max() not in (0.0, 1.0)  # a sample of the policy
    assert np.asarray(plan.sample(make_key(0))).sum() == 1.0
    with pytest.raises(UsageError, match="no density"):
        plan.log_prob(choices[0])


@pytest.mark.long
@pytest.mark.parametrize("kind", [SMCP, PPSMC])
def test_plans_are_of_choices_too(kind):
    spec, row = Spec(3, 4, OneHot()), kind(**SMALL)
    agent = rows.compiled(lambda key: row.init(spec, key))(make_key(0))
    u, _, memo = act(agent, OBS, make_key(1))
    np.testing.assert_array_equal(np.sort(np.asarray(u), axis=1), np.tile([0.0, 0.0, 0.0, 1.0], (E, 1)))
    assert (np.asarray(memo[PLAN])[:, 1] == 0).all()
    assert np.asarray(greedy(agent, OBS, make_key(1))).sum() == E


@pytest.mark.parametrize(
    ("kind", "settings", "why"),
    [
        (SMCP, {"particles": 1}, "particles is 1"),
        (SMCP, {"horizon": 0}, "horizon is 0"),
        (SMCP, {"horizon": 51}, "horizon is 51"),
        (SMCP, {"horizon": -1}, "horizon is -1"),
        (SMCP, {"members": 0}, "members is 0"),
        (SMCP, {"power": 0.0}, "power is 0"),
        (SMCP, {"resample": "often"}, "resample is 'often'"),
        (SMCP, {"eval_with": "plans"}, "eval_with is 'plans'"),
        (PPSMC, {"particles": 1}, "particles is 1"),
        (PPSMC, {"target": "retrace"}, "Retrace needs the density"),
        (PPSMC, {"kl_in_value": True, "target": "n-step"}, "a target of one step"),
        (PPSMC, {"kl_in_value": True, "horizon": 8, "gamma": 0.8}, "Above 1 its values overshoot"),
    ],
)
def test_what_plans_cannot_be_is_refused(kind, settings, why):
    with pytest.raises(UsageError, match=why):
        kind(**settings)


@pytest.mark.long
def test_soft_values_take_what_the_search_in_the_next_state_found(pp_smc, planned):
    row = PPSMC(**SMALL, samples=3, kl_in_value=True, unroll=2)
    assert jax.eval_shape(lambda key: row.init(SPEC, key), make_key(0)).length == 2
    pairs = jax.tree.map(lambda leaf: leaf.reshape(2, 2, *leaf.shape[2:]), planned)
    pairs = pairs._replace(last=jnp.asarray([[0.0, 0.0], [1.0, 0.0]]))
    after = search_of(pp_smc, pairs, make_key(2))[2]
    eta, advantage = float(pp_smc.temperature.model()), np.asarray(planned.memo["advantage"][1, 0])
    wanted = eta * np.log(np.exp(advantage / eta).mean())
    np.testing.assert_allclose(after[GAIN][..., 0], [[wanted, 0.0], [0.0, 0.0]], atol=1e-5)

    def value(gain):
        step = jax.tree.map(lambda leaf: leaf[0, 0], planned)._replace(memo={GAIN: jnp.asarray([gain])})
        return searched_value(pp_smc).value(step, make_key(3))

    np.testing.assert_allclose(value(2.0), value(0.0) + 2.0, rtol=1e-5)


@pytest.mark.long
def test_acting_compiles_once(smcp):
    for seed in range(2):
        act(smcp, OBS, make_key(seed))
    assert TRACED.count((smcp.behave, smcp.spec)) == 1


def test_a_planner_of_the_prior_proposes_from_its_slow_copy(pp_smc):
    assert pp_smc.behave.proposal is act_from_prior
    world = pp_smc.behave.world(pp_smc, OBS[0], make_key(0))
    q, p = world.propose(OBS[0]), world.prior(OBS[0])
    np.testing.assert_array_equal(q.mu, p.mu)
    moved = replace(pp_smc, prior=replace(pp_smc.prior, model=jax.tree.map(lambda x: x + 1, pp_smc.prior.model)))
    np.testing.assert_array_equal(moved.behave.world(moved, OBS[0], make_key(0)).propose(OBS[0]).mu, q.mu)


def searched_anew(agent, batch, part=0.5):
    """The samples, the memo and the metrics of an E-step that searches in half of the states."""
    _, draws, memo, info = rows.compiled(SearchFraction(part))(agent, batch, make_key(2))
    return draws, memo, info


def test_searches_made_anew_are_those_of_the_agent_of_now(pp_smc, planned):
    draws, memo, info = searched_anew(pp_smc, planned)
    assert draws.weight.shape == (E // 2, N)
    np.testing.assert_allclose(draws.weight.sum(1), 1.0, rtol=1e-5)
    assert float(info["plan/age"]) == 0.0
    assert 1.0 < float(info["e/ess"]) <= N
    stored, kept = search_of(pp_smc, planned, make_key(2))[1:3]
    assert not np.allclose(draws.action, stored.action[: E // 2])
    np.testing.assert_array_equal(memo[GAIN], kept[GAIN])  # values are those of the stored searches either way
    # what replay has stored does not matter
    moved = planned._replace(memo={name: value * 0 for name, value in planned.memo.items()})
    np.testing.assert_array_equal(searched_anew(pp_smc, moved)[0].weight, draws.weight)


@pytest.mark.parametrize("kind", [SMCP, PPSMC])
def test_a_plan_asks_no_more_members_than_there_are(kind):
    with pytest.raises(UsageError, match="plan_members is 3, which is not between 0 and 2"):
        kind(**SMALL, plan_members=3).init(SPEC, make_key(0))


@pytest.mark.parametrize(
    ("settings", "stored"),
    [
        ({}, {PLAN: 6}),
        ({"search_fraction": 0}, {PLAN: 6, "roots": 2 * N, "weight": N, "advantage": N}),
        ({"kl_in_value": True}, {PLAN: 6, "roots": 2 * N, "weight": N, "advantage": N}),
    ],
)
def test_replay_stores_searches_where_something_learns_from_them(settings, stored):
    row = PPSMC(**SMALL, samples=3, **settings)
    agent = rows.compiled(lambda key: row.init(SPEC, key))(make_key(0))
    assert memo_widths(agent) == stored


def test_new_searches_need_no_stored_ones(pp_smc, planned):
    draws, memo, _ = searched_anew(pp_smc, planned._replace(memo={PLAN: planned.memo[PLAN]}))
    assert set(memo) == {PLAN}
    np.testing.assert_array_equal(draws.weight, searched_anew(pp_smc, planned)[0].weight)


def test_a_new_search_that_is_not_finite_is_not_learned_from(pp_smc, planned):
    draws, _, info = searched_anew(with_bad_model(pp_smc), planned)
    assert np.isfinite(draws.action).all()
    np.testing.assert_array_equal(draws.weight, np.zeros((E // 2, N)))
    assert float(info["e/ess"]) == 0.0


@pytest.mark.long
def test_an_update_with_new_searches_moves_the_policy(planned):
    row = PPSMC(**SMALL, samples=3, search_fraction=0.5)
    agent = rows.compiled(lambda key: row.init(SPEC, key))(make_key(0))
    new, info = improve(agent, planned, make_key(3))
    assert float(info["skipped"]) == 0.0
    assert not np.allclose(new.prior.model.net.biases[-1], agent.prior.model.net.biases[-1])
