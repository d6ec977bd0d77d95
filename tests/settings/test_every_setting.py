"""Whatever settings are valid, an agent of them starts and two updates leave it finite."""

import dataclasses
import typing

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from estep.algorithms import ALGORITHMS
from estep.core.em import update
from estep.core.keys import make_key
from estep.core.types import OneHot, Spec, Transition
from estep.errors import UsageError
from estep.policy.actor import memo_widths
from estep.settings.kinds import kind_of
from oracles.rows import compiled, spec_of

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
