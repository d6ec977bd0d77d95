"""Which critic inference maximises, how pessimistic it is there, and by what an agent acts."""

import dataclasses
import functools as ft

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from estep.algorithms import MPO, RERPI, SAC, SQL, Compose, IterativeSAC, ParametricMPO
from estep.core import em
from estep.core.acting import act_greedily
from estep.core.keys import make_key
from estep.core.learned import learn
from estep.core.optim import adam
from estep.core.slots import Problem
from estep.core.types import OneHot, Spec
from estep.errors import UsageError
from estep.inference.direct import Direct
from estep.inference.iterative import Iterative
from estep.inference.named import InferenceSettings, chosen
from estep.instruments.improvement import iterating
from estep.likelihoods.maximised import Maximised, RelativeQ
from estep.likelihoods.q_function import MeanMinusStd, q_function
from estep.policy.actor import memo_widths
from estep.priors.flat import Flat
from oracles import rows

SPEC = Spec(3, 2)
OBS, U, KEY = jnp.asarray([0.5, -1.0, 0.2]), jnp.asarray([0.3, -0.7]), make_key(0)


def ensemble(members, beta=1.0):
    return q_function(members, SPEC, (8,), MeanMinusStd(beta), 0.9, key=KEY)


def relative(critic, start):
    """The estimate of an inference that starts at an action, as a function of the action."""
    estimate = RelativeQ(critic).relative_to(OBS, lambda: start)
    problem = Problem(OBS, Flat(SPEC), estimate, jnp.asarray(0.1))
    return lambda action: estimate(problem, action, KEY)


@pytest.mark.parametrize("members", [2, 3, 5])
def test_the_penalty_and_its_gradient_are_zero_at_the_start(members):
    critic = ensemble(members, beta=7.0)
    mean = lambda action: critic.values(OBS, action).mean()
    value, slope = jax.value_and_grad(relative(critic, U))(U)
    np.testing.assert_allclose(value, mean(U), atol=1e-6)
    np.testing.assert_allclose(slope, jax.grad(mean)(U), atol=1e-6)
    assert relative(critic, U)(-U) < mean(-U) - 1e-3  # elsewhere it costs


def test_of_two_members_it_is_the_smaller_gain():
    critic, estimate = ensemble(2), relative(ensemble(2), U)
    for action in jax.random.normal(KEY, (20, 2)):
        gains = critic.values(OBS, action) - critic.values(OBS, U)
        np.testing.assert_allclose(estimate(action) - estimate(U), gains.min(), atol=1e-6)


def test_the_value_of_the_state_costs_nothing():
    """A member that is higher by 100 in every action changes no gain."""
    critic = ensemble(2)
    high = dataclasses.replace(critic.members[1], biases=(*critic.members[1].biases[:-1], jnp.asarray([100.0])))
    other = dataclasses.replace(critic, members=(critic.members[0], high))
    one, two = relative(critic, U), relative(other, U)
    np.testing.assert_allclose(two(-U) - two(U), one(-U) - one(U), atol=1e-4)


def test_the_start_has_no_gradient():
    estimate = lambda start: relative(ensemble(2), start)(-U)
    # the mean of the members at a_0 is a constant of the state, and so is what the gain is taken from
    np.testing.assert_array_equal(jax.grad(estimate)(U), jnp.zeros(2))


def test_pessimism_of_acting_is_another_rule_on_the_same_networks():
    critic = learn(ensemble(2), adam(1e-3), tau=0.1)
    acting = Maximised("slow", beta=0.5)(critic)
    assert acting.pessimism == MeanMinusStd(0.5)
    assert all(x is y for x, y in zip(jax.tree.leaves(acting), jax.tree.leaves(critic.slow), strict=True))


SMALL = {"hidden_sizes": (8,)}
ROWS = {
    "sac": SAC(**SMALL),
    "iterative-sac": IterativeSAC(**SMALL),
    "mpo": MPO(**SMALL, target="td0", samples=4),
    "mpo-parametric": ParametricMPO(**SMALL),
    "rerpi": RERPI(**SMALL, samples=4),
    "sql": SQL(**SMALL, particles=4, target_samples=4),
    "compose": Compose(**SMALL),
}
every_row = pytest.mark.parametrize("name", ROWS)


@ft.cache
def after(row, updates=1):
    """The agent after some updates."""
    agent = INIT(row)
    memo = {name: jnp.zeros((*BATCH.reward.shape, size)) for name, size in memo_widths(agent).items()}
    batch = BATCH._replace(memo=memo)
    for key in jax.random.split(KEY, updates):
        agent, memo, _ = STEP(agent, batch, key)
        batch = batch._replace(memo=memo)
    return agent


INIT = rows.compiled(lambda row: row.init(SPEC, KEY), static_argnums=0)
STEP, MODE = rows.compiled(em.step), rows.compiled(act_greedily)
BATCH = rows.batch()


def differ(one, other):
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return any(not np.allclose(x, y, atol=1e-6) for x, y in pairs)


@pytest.mark.long
def test_slow_and_fast_are_the_same_where_the_copy_is_the_critic():
    kinds = [dataclasses.replace(ROWS["iterative-sac"], infer_on=kind, tau=1.0) for kind in ("fast", "slow")]
    assert not differ(*(after(row, updates=2) for row in kinds))


SLOWLY = dataclasses.replace(ROWS["iterative-sac"], infer_on="slow", tau=0.25, direct_start=True)


@pytest.mark.long
def test_the_slow_copy_moves_by_averaging_alone():
    one, two = after(SLOWLY), after(SLOWLY, updates=2)
    expected = jax.tree.map(lambda old, new: old + 0.25 * (new - old), one.likelihood.target, two.likelihood.model)
    assert not differ(expected, two.likelihood.target)
    assert differ(one.likelihood.target, two.likelihood.target)


@pytest.mark.long
@pytest.mark.parametrize("change", [{"infer_on": "slow"}, {"pessimism": "difference"}], ids=lambda change: str(change))
def test_what_inference_maximises_changes_the_actor_and_not_the_target(change):
    """After two updates of sac, whose second critic step has seen the actor, and whose first has not."""
    plain = dataclasses.replace(ROWS["sac"], num_critics=3, beta=5.0, tau=0.5, learning_rate=0.01)
    other = dataclasses.replace(plain, **change)
    assert not differ(after(plain).likelihood, after(other).likelihood)
    assert differ(after(plain, 2).inference, after(other, 2).inference)


@pytest.mark.long
def test_the_pessimism_of_acting_and_the_start_change_acting_alone():
    agent, obs = after(SLOWLY, updates=2), BATCH.obs[:, 0]
    rule, start = INIT(dataclasses.replace(SLOWLY, act_beta=0.0)), INIT(dataclasses.replace(SLOWLY, act_by="start"))
    for row in (rule, start):
        assert (row.training_critic, row.targeting, row.e_step) == (
            agent.training_critic,
            agent.targeting,
            agent.e_step,
        )
    mode = MODE(agent, obs, KEY)
    assert differ(mode, MODE(dataclasses.replace(agent, acting_critic=rule.acting_critic), obs, KEY))
    assert not differ(
        mode, MODE(dataclasses.replace(agent, acting_critic=Maximised("slow", beta=SLOWLY.beta)), obs, KEY)
    )
    by_start = MODE(dataclasses.replace(agent, acting=start.acting), obs, KEY)
    lam = jax.vmap(lambda obs: agent.inference.model.start(agent.problem(None, obs), agent.posterior, KEY).lam)(obs)
    assert not differ(by_start, jnp.tanh(lam[:, :2]))
    assert differ(mode, by_start)


@every_row
def test_a_fraction_of_the_rows_infers_in_every_row_of_the_table(name):
    full = ROWS[name]
    half = dataclasses.replace(full, inference_fraction=0.5)
    agents = [jax.eval_shape(lambda key, row=row: row.init(SPEC, key), KEY) for row in (full, half)]
    batch = rows.batch()
    for agent, share in zip(agents, (1.0, 1.0 if name == "iterative-sac" else 0.5), strict=True):
        memo = {key: jnp.zeros((*batch.reward.shape, size)) for key, size in memo_widths(agent).items()}
        draws = jax.eval_shape(agent.e_step, agent, batch._replace(memo=memo), KEY)[1]
        whole = batch.reward.size if name != "iterative-sac" else round(0.5 * batch.reward.size)
        assert draws.action.shape[0] == round(share * whole)


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: SAC(pessimism="difference", num_critics=1), "spread of several critics"),
        (lambda: MPO(pessimism="difference"), "spread of several critics"),
        (lambda: SQL(pessimism="difference", num_critics=2), "start at no action"),
        (lambda: MPO(act_beta=1.0), "acts without inference"),
        (lambda: IterativeSAC(act_by="start", direct_start=False), "fixed place"),
        (lambda: IterativeSAC(act_by="start", act_iterations=3), "act_iterations"),
        (lambda: IterativeSAC(act_by="start", act_beta=1.0), "act_beta"),
        (lambda: SAC(infer_on="target"), "one of fast, slow"),
        (lambda: IterativeSAC(act_beta=-1.0), "at least 0"),
    ],
)
def test_what_has_no_use_is_refused(make, why):
    with pytest.raises(UsageError, match=why):
        make()


def test_a_start_without_a_preference_is_refused_over_choices():
    row = IterativeSAC(**SMALL, pessimism="difference", direct_start=False)
    with pytest.raises(UsageError, match="equal probabilities"):
        row.init(Spec(3, 3, OneHot()), KEY)
    jax.eval_shape(lambda key: row.init(SPEC, key), KEY)  # numbers have a middle


def test_the_defaults_are_the_critic_of_before():
    for name, row in ROWS.items():
        agent = jax.eval_shape(lambda key, row=row: row.init(SPEC, key), KEY)
        slow = name in ("mpo", "rerpi")
        assert agent.training_critic(agent.likelihood) is (agent.likelihood.slow if slow else agent.likelihood.model)


def test_the_iterations_of_an_agent_that_acts_by_its_start_are_still_there():
    """For `eval --inference iterative`, and for what inspect says of iterations."""
    agent = INIT(dataclasses.replace(SLOWLY, act_by="start"))
    assert isinstance(agent.acting(agent.inference.model), Direct)
    assert isinstance(chosen("iterative", InferenceSettings(iterations=7))(agent).inference.model, Iterative)
    assert iterating(agent) is agent.inference.model


def test_an_agent_is_inspected_on_what_it_maximises():
    row = dataclasses.replace(ROWS["iterative-sac"], infer_on="slow", act_beta=0.0, pessimism="difference")
    agent = jax.eval_shape(lambda key: row.init(SPEC, key), KEY)
    judged = jax.eval_shape(lambda agent: agent.acting_problem(OBS, KEY).likelihood, agent)
    assert isinstance(judged, RelativeQ)
    assert judged.critic.pessimism == MeanMinusStd(0.0)
    assert judged.at_start.shape == (2,)
