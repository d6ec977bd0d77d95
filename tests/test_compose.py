"""Every pairing of parts either learns or says why it cannot."""

import itertools
from dataclasses import fields

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from estep.algorithms import SMCP, Compose
from estep.core import em
from estep.core.acting import act_from_posterior, act_from_prior, act_greedily, act_with_memo
from estep.core.keys import make_key
from estep.core.types import OneHot, Spec
from estep.e_steps.plans import PLAN
from estep.errors import UsageError
from estep.inference.direct import Direct
from estep.inference.iterative import Iterative
from estep.inference.starts import AtPrior
from estep.settings.part_fields import INFERENCES, POSTERIORS, PRIORS
from oracles import rows

CHOICES = {"prior": PRIORS, "posterior": POSTERIORS, "inference": INFERENCES}
SMALL = {"hidden_sizes": (8,), "iterations": 2, "samples": 4, "num_candidates": 20, "components": 2, "unroll": 1}
CONTINUOUS, DISCRETE = Spec(3, 2), Spec(3, 3, OneHot())


def made(**parts):
    """The row, or why there is none."""
    try:
        return Compose(**SMALL, **parts)
    except UsageError as error:
        return error


def combinations():
    """Every prior, posterior and inference; with the likelihood that the inference needs."""
    for prior, posterior, inference in itertools.product(*CHOICES.values()):
        visited = inference == "advantages"
        rest = {"likelihood": "state-value", "act_with": "prior"} if visited else {}
        yield {"prior": prior, "posterior": posterior, "inference": inference, **rest}


VALID = [parts for parts in combinations() if isinstance(made(**parts), Compose)]


def test_a_refusal_names_the_reason_and_the_way_out():
    refused = [made(**parts) for parts in combinations()]
    refused = [error for error in refused if isinstance(error, UsageError)]
    assert len(refused) + len(VALID) == np.prod([len(names) for names in CHOICES.values()])
    for error in refused:
        assert error.what.endswith(".")
        assert error.fix.startswith("Give ")
    assert len(VALID) > 40


PLANS = {"likelihood": "model", "act_with": "plan"}
ON_POLICY = {"prior": "learned", "likelihood": "state-value", "inference": "advantages", "act_with": "prior"}


@pytest.mark.parametrize(
    ("parts", "why"),
    [
        ({"posterior": "boltzmann"}, "no parameters"),
        ({"posterior": "boltzmann", "inference": "closed-form"}, "cannot be sampled"),
        ({"inference": "closed-form"}, "not gaussian posteriors"),
        ({"posterior": "mixture", "inference": "cem"}, "no closed form"),
        ({"inference": "advantages"}, "do not go together"),
        ({"posterior": "categorical", "prior": "gaussian"}, "no discrete actions"),
        ({"likelihood": "state-value"}, "do not go together"),
        ({"act_with": "prior"}, "does not learn"),
        ({"act_with": "plan"}, "learns none"),
        ({"likelihood": "model", "posterior": "mixture"}, "one of each component"),
        ({**PLANS, "posterior": "mixture", "horizon": 0}, "needs a sample of each"),
        ({**PLANS, "inference": "gradient"}, "every particle"),
        ({**PLANS, "inference": "semi-amortised"}, "every particle"),
        ({**PLANS, "target": "retrace"}, "which have none"),
        ({**PLANS, "kl_in_value": False}, "does not learn"),
        ({**PLANS, "act_by": "start"}, "does not act by inference"),
        ({"kl_in_value": False}, "does not learn"),
        ({"posterior": "mixture", "components": 9}, "without a sample"),
        ({"inference": "semi-amortised", "start": "iterative"}, "does not start"),
        ({"start": "direct"}, "does not start"),
        ({"inference": "iterative", "start": "iterative"}, "more iterations"),
        ({**ON_POLICY, "infer_on": "slow"}, "have no use"),
        ({**ON_POLICY, "inference_fraction": 0.5}, "have no use"),
        ({"likelihood": "json:loads", "act_beta": 1.0}, "spread of an ensemble"),
        ({"likelihood": "json:loads", "pessimism": "difference"}, "spread of an ensemble"),
        ({"pessimism": "difference", "num_critics": 1}, "several critics"),
        ({"posterior": "categorical", "inference": "closed-form", "pessimism": "difference"}, "equal probabilities"),
        ({"posterior": "categorical", "inference": "gradient", "pessimism": "difference"}, "equal probabilities"),
        ({"act_by": "start"}, "starts at no network"),
        ({"inference": "cem", "act_by": "start"}, "starts at no network"),
        (
            {"prior": "learned", "inference": "semi-amortised", "act_with": "prior", "act_by": "start"},
            "does not act by inference",
        ),
        ({"act_beta": 1.0}, "without it"),
        ({"inference": "semi-amortised", "act_by": "start", "act_beta": 1.0}, "without it"),
    ],
)
def test_what_does_not_fit_is_refused(parts, why):
    with pytest.raises(UsageError, match=why):
        Compose(**{**SMALL, **parts})


def test_the_environment_decides_between_numbers_and_choices():
    with pytest.raises(UsageError, match="one of several choices"):
        Compose(**SMALL).init(DISCRETE, make_key(0))
    with pytest.raises(UsageError, match="are numbers"):
        Compose(**SMALL, posterior="categorical").init(CONTINUOUS, make_key(0))


@pytest.mark.parametrize("parts", VALID[::6], ids=lambda parts: "-".join(list(parts.values())[:3]))
def test_a_combination_that_is_taken_traces_an_update(parts):
    """Shapes alone, and every sixth: all are tried for the table in the documentation."""
    row = made(**parts)
    spec = DISCRETE if parts["posterior"] == "categorical" else CONTINUOUS
    agent = jax.eval_shape(lambda key: row.init(spec, key), make_key(0))
    after, _ = jax.eval_shape(em.update, agent, rows.batch(spec=Spec(3, spec.action_dim)), make_key(1))
    jax.tree.map(lambda x, y: (x.shape, x.dtype) == (y.shape, y.dtype) or pytest.fail("the tree changed"), agent, after)


STARTED = [
    {"inference": inference, "start": start}
    for inference in ("iterative", "gradient", "cem", "importance")
    for start in ("prior", "direct", "iterative")
    if not inference == start == "iterative"
]


@pytest.mark.parametrize("parts", STARTED, ids=lambda parts: "-".join(parts.values()))
def test_an_optimiser_starts_where_it_is_told_and_a_network_there_learns(parts):
    row = made(**parts)
    agent = jax.eval_shape(lambda key: row.init(CONTINUOUS, key), make_key(0))
    kind = {"prior": AtPrior, "direct": Direct, "iterative": Iterative}[parts["start"]]
    assert isinstance(agent.inference.model.start, kind)
    moments = jax.tree.leaves(agent.inference.opt_state)
    assert bool(moments) == (parts["inference"] == "iterative" or parts["start"] != "prior")
    after, _ = jax.eval_shape(em.update, agent, rows.batch(), make_key(1))
    assert jax.tree.structure(after) == jax.tree.structure(agent)


MAXIMISED = [
    {"inference": "gradient", "start": "direct", "pessimism": "difference", "num_critics": 3, "act_beta": 0.5},
    {"inference": "iterative", "start": "direct", "infer_on": "slow", "act_by": "start", "inference_fraction": 0.5},
    {"prior": "uniform", "posterior": "boltzmann", "inference": "closed-form", "pessimism": "difference"},
    {"posterior": "categorical", "inference": "direct", "pessimism": "difference"},
]


@pytest.mark.parametrize("parts", MAXIMISED, ids=lambda parts: parts["inference"])
def test_what_inference_maximises_goes_with_the_parts(parts):
    row, spec = made(**parts), DISCRETE if parts.get("posterior") == "categorical" else CONTINUOUS
    agent = jax.eval_shape(lambda key: row.init(spec, key), make_key(0))
    jax.eval_shape(em.update, agent, rows.batch(spec=Spec(3, spec.action_dim)), make_key(1))
    jax.eval_shape(act_greedily, agent, jnp.zeros((2, 3)), make_key(1))
    by_network = "act_by" in parts or parts["inference"] == "direct"
    assert isinstance(agent.acting(agent.inference.model), Direct) == by_network


MODEL = {"members": 2, "model_hidden_sizes": (8,), "particles": 3}
PLANNED = {
    "as smcp": {"horizon": 0},
    "prior": {"prior": "learned", "kl_in_value": False, "posterior": "boltzmann", "inference": "closed-form"},
    "mixture": {"posterior": "mixture", "target": "n-step", "prior": "learned", "horizon": 0, "value_samples": 2},
    "choices": {"posterior": "categorical"},
}


@pytest.mark.parametrize("name", PLANNED)
def test_plans_act_for_any_policy_that_a_network_or_the_prior_is(name):
    row = made(**PLANS, **MODEL, **PLANNED[name])
    spec = DISCRETE if name == "choices" else CONTINUOUS
    agent = jax.eval_shape(lambda key: row.init(spec, key), make_key(0))
    act = lambda agent, obs, key: act_with_memo(agent, obs, key)[2]
    memo = jax.eval_shape(act, agent, jnp.zeros((2, 3)), make_key(1))
    batch = rows.batch(spec=Spec(3, spec.action_dim))
    batch = batch._replace(memo={PLAN: jnp.zeros((*batch.reward.shape, memo[PLAN].shape[1]))})
    after, info = jax.eval_shape(em.update, agent, batch, make_key(1))
    assert jax.tree.structure(after) == jax.tree.structure(agent)
    assert {"plan/ess", "model/nll"} <= set(info)
    assert agent.behave.proposal is (act_from_prior if name == "prior" else act_from_posterior)
    smcp = jax.eval_shape(lambda key: SMCP(hidden_sizes=(8,), **MODEL).init(spec, key), make_key(0))
    assert (agent.behave == smcp.behave) == (name in ("as smcp", "choices"))


@pytest.mark.parametrize(("plain", "training"), [(False, "fast"), (True, "slow")])
def test_by_default_the_trust_region_infers_on_the_slow_critic_and_acts_on_the_fast_one(plain, training):
    row = made(prior="learned", kl_in_value=not plain)
    agent = jax.eval_shape(lambda key: row.init(CONTINUOUS, key), make_key(0))
    assert agent.training_critic.infer_on == training
    assert agent.acting_critic.infer_on == "fast"


def test_semi_amortised_is_gradient_ascent_from_a_direct_network():
    one, other = (
        jax.eval_shape(lambda key, row=row: row.init(CONTINUOUS, key), make_key(0)).inference.model
        for row in (made(inference="semi-amortised"), made(inference="gradient", start="direct"))
    )
    assert jax.tree.structure(one) == jax.tree.structure(other)


RUN = [
    {"prior": "learned", "posterior": "boltzmann", "inference": "closed-form", "kl_in_value": False},
    {"prior": "learned", "posterior": "mixture", "inference": "iterative", "act_with": "prior"},
    {"prior": "gaussian", "posterior": "full-gaussian", "inference": "semi-amortised", "target": "retrace"},
    {"posterior": "gaussian", "inference": "cem", "start": "iterative"},
]


@pytest.mark.long
@pytest.mark.parametrize("parts", RUN, ids=lambda parts: parts["inference"])
def test_some_run(parts):
    row = made(**parts)
    agent = rows.compiled(lambda key: row.init(CONTINUOUS, key))(make_key(0))
    batch = rows.batch()
    memo = {"log_prob": jnp.zeros((*batch.reward.shape, 1))} if parts.get("target") == "retrace" else ()
    update = rows.compiled(em.update)
    for t in range(3):
        before = agent
        agent, info = update(agent, batch._replace(memo=memo), make_key(t))
        assert info["skipped"] == 0
    learned = ("prior", "likelihood", "temperature") if parts.get("prior") == "learned" else ("inference", "likelihood")
    for name in learned:
        pairs = zip(*(jax.tree.leaves(getattr(one, name).model) for one in (before, agent)), strict=True)
        assert any((x != y).any() for x, y in pairs), name


def test_every_field_is_explained():
    assert {field.name for field in fields(Compose)} >= {"prior", "posterior", "inference", "likelihood"}
