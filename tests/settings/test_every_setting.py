"""Whatever settings are valid, an agent of them starts and two updates leave it finite."""

import dataclasses
import re
import typing

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from estep.algorithms import ALGORITHMS, MPO, PPSMC, RERPI, SAC, Compose
from estep.core.acting import act, act_greedily
from estep.core.em import update
from estep.core.keys import make_key
from estep.core.types import OneHot, Spec, Transition
from estep.errors import UsageError
from estep.policy.actor import memo_widths
from estep.policy.environments import idle_note
from estep.runs.config_file import Recipe
from estep.settings import groups
from estep.settings.kinds import kind_of
from estep.settings.run import RunConfig
from oracles.rows import ROWS, WITH_MODEL, compiled, spec_of

SPECS = Spec(3, 2), Spec(3, 3, OneHot())
MOST = 4
"""Above its least value, of a whole number: sizes cost time, and their bounds are at the other end."""
NEAR = 1e-3
"""How near to an open bound a number may come."""


def values(hint):
    """Valid values of a setting's type, its bounds among them."""
    kind = kind_of(hint)
    limits = {name: getattr(one, name.lower(), None) for name, one in ((type(b).__name__, b) for b in kind.bounds)}
    if kind.choices is not None:
        return st.sampled_from(kind.choices.names)
    if typing.get_origin(kind.base) is typing.Literal:
        return st.sampled_from(typing.get_args(kind.base))
    if typing.get_origin(kind.base) is tuple:
        if typing.get_args(kind.base)[0] is float:
            return st.sampled_from([(), (-10.0, 10.0)])
        if typing.get_args(kind.base)[0] is str:
            return st.sampled_from([("state",), ("all",), ("nothing",), ("1", "2:3")])
        return st.builds(lambda size, layers: (size,) * layers, st.integers(1, 9), st.integers(1, 2))
    if kind.base is str:
        return st.just("")
    if kind.base is bool:
        return st.booleans()
    if kind.base is int:
        least = limits.get("Ge", 0)
        return st.integers(least, least + MOST)
    none = st.none() if type(None) in typing.get_args(kind.base) else st.nothing()
    low, high = limits.get("Ge", limits.get("Gt", -10.0)), limits.get("Le", limits.get("Lt", 10.0))
    low, high = low + (NEAR * abs(low or 1.0) if "Gt" in limits else 0.0), min(high, low + 10.0)
    return none | st.floats(low, high - (NEAR * abs(high) if "Lt" in limits else 0.0))


@st.composite
def rows(draw, kind):
    """A valid algorithm of a class."""
    hints = typing.get_type_hints(kind, include_extras=True)
    chosen = {field.name: draw(values(hints[field.name])) for field in dataclasses.fields(kind)}
    if chosen.get("network", "mlp") != "mlp":
        chosen["critic_norm"] = "none"
    elif chosen.get("critic_loss") == "mse":
        chosen["value_range"] = ()
    try:
        return kind(**chosen)
    except UsageError:
        assume(False)


def batch(agent):
    """Random transitions of the shape that an agent learns from."""
    k, shape = jax.random.split(make_key(1), 4), (6, agent.length)
    obs, next_obs = (jax.random.normal(key, (*shape, agent.spec.obs_dim)) for key in k[:2])
    if agent.spec.discrete:
        action = jax.nn.one_hot(jax.random.randint(k[2], shape, 0, agent.spec.action_dim), agent.spec.action_dim)
    else:
        action = 0.5 * jax.random.normal(k[2], (*shape, agent.spec.action_dim))
    memo = {name: jnp.zeros((*shape, size)) for name, size in memo_widths(agent).items()}
    reward, ones = jax.random.normal(k[3], shape), jnp.ones(shape)
    return Transition(obs, action, reward, ones, next_obs, jnp.zeros(shape), memo)


def check(row, spec):
    """Two updates of a fresh agent."""
    try:
        jax.eval_shape(lambda key: row.init(spec, key), make_key(0))
    except UsageError:  # the algorithm refuses this environment: try other settings
        assume(False)
    agent = compiled(lambda key: row.init(spec, key))(make_key(0))
    step, seen = compiled(update), batch(agent)
    for key in jax.random.split(make_key(2)):
        agent, info = step(agent, seen, key)
    for leaf in jax.tree.leaves(agent):
        assert np.isfinite(np.asarray(leaf)).all(), row
    assert np.isfinite(float(info["skipped"]))


QUICK = {"deadline": None, "suppress_health_check": list(HealthCheck), "derandomize": True}


@pytest.mark.parametrize("name", ["sac", "mpo", "vmpo", "compose"])
@settings(max_examples=1, **QUICK)
@given(st.data())
def test_valid_settings_start_and_stay_finite(name, data):
    check(data.draw(rows(ALGORITHMS[name])), spec_of(name, data.draw(st.sampled_from(SPECS))))


@pytest.mark.long
@pytest.mark.parametrize("name", ALGORITHMS)
@settings(max_examples=40, **QUICK)
@given(st.data())
def test_many_valid_settings_start_and_stay_finite(name, data):
    check(data.draw(rows(ALGORITHMS[name])), spec_of(name, data.draw(st.sampled_from(SPECS))))


def other(row, name):
    """Another value of a setting."""
    value, kind = getattr(row, name), kind_of(typing.get_type_hints(type(row), include_extras=True)[name])
    if typing.get_origin(kind.base) is typing.Literal or kind.choices is not None:
        known = kind.choices.names if kind.choices is not None else typing.get_args(kind.base)
        return next(word for word in known if word != value)
    if isinstance(value, tuple):
        return tuple(2 * size for size in value)
    if isinstance(value, bool):
        return not value
    return value + 1 if isinstance(value, int) else 0.9 * (value or 0.5)


def changed(row, names):
    """The row with other values of some settings."""
    return dataclasses.replace(row, **{name: other(row, name) for name in names})


def program(row, spec):
    """All that an agent does: how it starts, learns and acts, with every number in it."""
    agent = row.init(spec, make_key(0))
    seen, key = batch(agent), make_key(1)
    made = [
        eqx.filter_make_jaxpr(function)(agent, *inputs)[0]
        for function, inputs in ((update, (seen, key)), (act, (seen.obs[0], key)), (act_greedily, (seen.obs[0], key)))
    ]
    numbers = [leaf.tobytes() for leaf in map(np.asarray, jax.tree.leaves(eqx.filter(agent, eqx.is_inexact_array)))]
    return numbers, [re.sub("0x[0-9a-f]+", "", str(one.jaxpr)) + str(one.consts) for one in made]


OF_ONE_CRITIC = {"beta", "act_beta"}
"""They scale a spread, which is 0 of one critic."""
FRESH = {"posterior": "boltzmann", "inference": "advantages", "likelihood": "state-value", "act_with": "prior"}
SMALL = {"hidden_sizes": (8,), "model_hidden_sizes": (8,), "members": 2}
COMPOSED = {
    "compose": Compose(**SMALL),
    "compose cem": Compose(**SMALL, inference="cem", posterior="full-gaussian", target="n-step"),
    "compose mixture": Compose(**SMALL, prior="gaussian", inference="gradient", posterior="mixture"),
    "compose fresh": Compose(**SMALL, prior="learned", **FRESH),
    "compose model": Compose(**SMALL, likelihood="model"),
    "compose plan": Compose(**SMALL, likelihood="model", act_with="plan"),
}
IDLE_IN = "sac", "iterative-sac", "mpo", "mpo-parametric", "rerpi", "vmpo", "soft-pg", "distral", "default-policy"


@pytest.mark.parametrize("name", [*IDLE_IN, *COMPOSED])
def test_settings_that_are_called_idle_change_nothing(name):
    row = {**ROWS, **COMPOSED}[name]
    own = {field.name for field in dataclasses.fields(row)}
    for spec in SPECS[: 1 if name in COMPOSED else None]:
        spec = spec_of(name, spec)
        names = own & groups.idle(vars(row), len(spec.factors)) - OF_ONE_CRITIC
        assert program(changed(row, names), spec) == program(row, spec), names


OF_ONE_CHOICE = {
    "compose": Compose(**SMALL, posterior="categorical"),
    "compose closed": Compose(**SMALL, posterior="categorical", inference="closed-form", prior="learned"),
    **{name: WITH_MODEL[name] for name in ("iterative-mve", "kl-mve", "pp-smc")},
}


@pytest.mark.parametrize("name", OF_ONE_CHOICE)
def test_samples_change_nothing_where_an_action_is_one_choice(name):
    row, choices = OF_ONE_CHOICE[name], SPECS[1]
    names = groups.SAMPLED & {field.name for field in dataclasses.fields(row)}
    assert names <= groups.idle(vars(row), len(choices.factors))
    assert program(changed(row, names), choices) == program(row, choices)


@pytest.mark.parametrize("name", ["iterative-sac", "mpo"])
def test_settings_of_the_kind_of_action_change_something(name):
    row = ROWS[name]
    own = {field.name for field in dataclasses.fields(row)}
    for spec, used in zip(SPECS, (groups.OF_BOXES, groups.OF_CHOICES), strict=True):
        whole = program(row, spec)
        assert [one for one in own & used if program(changed(row, {one}), spec) == whole] == []


def test_what_is_used_is_not_called_idle():
    names = {"beta", "unroll", "components", "particles", "horizon", "rollout", "sigma", "iterations"}
    assert groups.idle(vars(ROWS["sac"]), choices=0) == groups.OF_CHOICES
    assert names & groups.idle(vars(PPSMC(kl_in_value=True, num_critics=2)), choices=0) == set()
    assert [groups.idle(vars(MPO()), choices) >= groups.SAMPLED for choices in (0, 1, 2)] == [False, True, False]
    used = Compose(prior="learned", likelihood="model", act_with="plan", target="n-step")
    assert names & groups.idle(vars(used), choices=0) == {"components", "rollout", "iterations"}
    own = Compose(prior="mine:prior", likelihood="mine:likelihood", inference="mine:inference")
    assert names & groups.idle(vars(own), choices=0) == {"components", "unroll", "particles"}


def test_a_run_names_the_settings_that_change_nothing():
    def note(name, row, spec):
        return idle_note(Recipe(name, row, "X-v0", True, RunConfig(), None), spec)

    boxes, choices = SPECS
    assert note("sac", SAC(entropy_fraction=0.9, gamma=0.9), boxes) == (
        "note     --entropy-fraction does nothing with the other settings and actions that are numbers"
    )
    assert "--beta, --sigma do nothing" in note("mpo", MPO(sigma=0.3, beta=1.0), choices)
    assert "--rank-shift does nothing" in note("rerpi", RERPI(rank_shift=2.0), boxes)
    assert note("rerpi", RERPI(rank_shift=2.0, weights="rank"), boxes) is None
    assert note("mpo", MPO(beta=1.0, num_critics=2), choices) is None
    assert note("mine:SAC", SAC(entropy_fraction=0.9), boxes) is None
