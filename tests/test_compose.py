"""Every pairing of parts either learns or says why it cannot."""

import itertools
from dataclasses import fields

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from estep.algorithms import Compose
from estep.core import em
from estep.core.keys import make_key
from estep.core.types import OneHot, Spec
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


@pytest.mark.parametrize(
    ("parts", "why"),
    [
        ({"posterior": "boltzmann"}, "no parameters"),
        ({"posterior": "boltzmann", "inference": "closed-form"}, "cannot be sampled"),
        ({"inference": "closed-form"}, "not a gaussian"),
        ({"posterior": "mixture", "inference": "cem"}, "no closed form"),
        ({"inference": "advantages"}, "do not go together"),
        ({"posterior": "categorical", "prior": "gaussian"}, "no discrete actions"),
        ({"likelihood": "state-value"}, "do not go together"),
        ({"act_with": "prior"}, "does not learn"),
        ({"kl_in_value": False}, "does not learn"),
        ({"posterior": "mixture", "components": 9}, "without a sample"),
        ({"inference": "semi-amortised", "start": "iterative"}, "does not start"),
        ({"start": "direct"}, "does not start"),
        ({"inference": "iterative", "start": "iterative"}, "more iterations"),
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
