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

from estep.algorithms import ALGORITHMS
from estep.core.acting import act, act_greedily
from estep.core.em import update
from estep.core.keys import make_key
from estep.core.types import OneHot, Spec, Transition
from estep.errors import UsageError
from estep.policy.actor import memo_widths
from estep.policy.environments import idle_note
from estep.settings import groups
from estep.settings.kinds import kind_of
from oracles.rows import ROWS, compiled, spec_of

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


OTHER = {
    "entropy": -0.5,
    "entropy_fraction": 0.7,
    "sigma": 0.5,
    "antithetic": lambda own: not own,
    "act_samples": 7,
    "epsilon_box": 0.5,
    "epsilon_scale": 0.01,
    "trust_region": lambda own: "joint" if own == "coupled" else "coupled",
}
"""Another value of each setting that one kind of action makes no use of, or a function from its value to one."""


def changed(row, names):
    """The row with other values of some settings."""
    return dataclasses.replace(
        row, **{name: OTHER[name](getattr(row, name)) if callable(OTHER[name]) else OTHER[name] for name in names}
    )


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


@pytest.mark.parametrize(
    "name", ["sac", "iterative-sac", "mpo", "mpo-parametric", "rerpi", "vmpo", "soft-pg", "distral"]
)
def test_settings_of_another_kind_of_action_change_nothing(name):
    row = ROWS[name]
    own = {field.name for field in dataclasses.fields(row)}
    for spec, idle in zip(SPECS, (groups.OF_CHOICES, groups.OF_BOXES), strict=True):
        spec = spec_of(name, spec)
        whole = program(row, spec)
        if names := own & idle:
            assert program(changed(row, names), spec) == whole, names
        for used in own & OTHER.keys() - idle:
            assert program(changed(row, {used}), spec) != whole, used
    assert OTHER.keys() == groups.OF_CHOICES | groups.OF_BOXES


def test_a_run_names_the_settings_that_change_nothing():
    boxes, choices = SPECS
    assert idle_note(["entropy_fraction", "gamma"], boxes) == (
        "note     --entropy-fraction does nothing here, where actions are numbers"
    )
    assert idle_note(["sigma", "entropy"], choices).endswith(
        "--sigma, --entropy do nothing here, where actions are choices"
    )
    assert idle_note(["entropy", "gamma"], boxes) is None
