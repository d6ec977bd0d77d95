"""A value is put into its plain form where the meaning is plain, and refused in a sentence where it is not."""

import dataclasses
from typing import Annotated

import jax.numpy as jnp
import numpy as np
import pytest

import estep
from estep import SAC, Compose, IterativeSAC, RunConfig
from estep.errors import UsageError
from estep.settings import fields, references, renamed, schema
from estep.settings.kinds import Help, kind_of, validate

PLAIN = [
    (RunConfig, "steps", 1e5, 100_000),
    (RunConfig, "steps", np.int64(7), 7),
    (RunConfig, "steps", np.float32(8.0), 8),
    (RunConfig, "steps", jnp.asarray(9), 9),
    (RunConfig, "updates_per_step", 2, 2.0),
    (RunConfig, "updates_per_step", np.float32(0.5), 0.5),
    (RunConfig, "normalise", np.bool_(True), True),
    (RunConfig, "stop_at", None, None),
    (RunConfig, "stop_at", 5, 5.0),
    (SAC, "hidden_sizes", [64, 32.0], (64, 32)),
    (SAC, "hidden_sizes", np.asarray([8, 8]), (8, 8)),
]


@pytest.mark.parametrize(("kind", "name", "value", "plain"), PLAIN)
def test_a_value_is_put_into_its_plain_form(kind, name, value, plain):
    found = getattr(kind(**{name: value}), name)
    assert found == plain
    assert type(found) is type(plain)


REFUSED = [
    (RunConfig, "steps", "100", "a whole number"),
    (RunConfig, "steps", 2.5, "a whole number"),
    (RunConfig, "steps", True, "a whole number"),
    (RunConfig, "steps", None, "a whole number"),
    (RunConfig, "steps", float("nan"), "a whole number"),
    (RunConfig, "steps", 10**400, "a whole number"),
    (RunConfig, "steps", 0, "at least 1"),
    (RunConfig, "seed", 2**32, "below 4294967296"),
    (RunConfig, "seed", None, "a whole number"),
    (RunConfig, "normalise", "yes", "true or false"),
    (RunConfig, "normalise", 1, "true or false"),
    (RunConfig, "stop_at", float("inf"), "a finite number"),
    (RunConfig, "stop_at", "high", "a finite number"),
    (SAC, "gamma", 1.0, "at least 0 and below 1"),
    (SAC, "gamma", float("nan"), "a finite number"),
    (SAC, "gamma", np.ones(2), "a finite number"),
    (SAC, "hidden_sizes", 64, "a list of whole numbers"),
    (SAC, "hidden_sizes", "64", "a list of whole numbers"),
    (SAC, "hidden_sizes", (), "one or more sizes"),
    (SAC, "hidden_sizes", (16, 0), "at least 1"),
    (SAC, "hidden_sizes", (16, "a"), "a whole number"),
    (SAC, "features", "not a reference", "a network of yours as module:name"),
    (IterativeSAC, "grad_encoding", "nothing", "one of log_sign, layer_norm, none"),
    (IterativeSAC, "grad_encoding", None, "one of log_sign, layer_norm, none"),
    (IterativeSAC, "act_average", 3, "between 1 and 2, the iterations"),
    (Compose, "inference", "cme", "one of direct, iterative"),
]


@pytest.mark.parametrize(("kind", "name", "value", "wanted"), REFUSED)
def test_a_value_is_refused_by_its_flag(kind, name, value, wanted):
    with pytest.raises(UsageError) as raised:
        kind(**{name: value})
    assert f"--{name.replace('_', '-')} is " in raised.value.what
    assert wanted in raised.value.what
    assert raised.value.fix


@pytest.mark.parametrize(
    ("kind", "option", "near"), [(RunConfig, "stepz", "steps"), (SAC, "hiden_size", "hidden_sizes")]
)
def test_an_unknown_option_is_refused_with_the_nearest(kind, option, near):
    with pytest.raises(UsageError, match=f"{kind.__name__} has no option '{option}'.\nDid you mean {near}"):
        kind(**{option: 3})


def test_the_form_of_another_library_is_answered_with_ours():
    with pytest.raises(UsageError, match=r"nor an environment\.\nWrite policy = estep\.train"):
        estep.SAC("MlpPolicy", "Pendulum-v1")
    assert estep.SAC((8, 8)).hidden_sizes == (8, 8)


def test_a_part_may_be_named_or_given():
    from own_part import narrow, slow_ascent

    given = Compose(prior=narrow, inference=slow_ascent)
    assert given == Compose(prior="own_part:narrow", inference="own_part:slow_ascent")
    assert references.resolve(given.inference) is slow_ascent


@pytest.mark.parametrize("thing", [lambda obs_dim, key: None, SAC().init, 3, None])
def test_a_part_that_no_other_process_could_find_is_refused(thing):
    with pytest.raises(UsageError, match="top level of a module"):
        SAC(features=thing)


def test_the_last_help_counts():
    assert kind_of(Annotated[fields.Samples, Help("Mine.")]).help == "Mine."
    assert kind_of(Annotated[fields.Samples, Help("Mine.")]).bounds == kind_of(fields.Samples).bounds


def test_a_class_of_anybody_is_checked_by_the_same_types():
    @dataclasses.dataclass(frozen=True)
    class Own:
        gamma: fields.Gamma = 0.99
        anything: object = None

        def __post_init__(self):
            validate(self)

    assert Own(gamma=0, anything=...).gamma == 0.0
    with pytest.raises(UsageError, match="gamma is 2"):
        Own(gamma=2)


def test_names_of_other_libraries_are_answered_with_settings_that_exist():
    every = {field.name for row in schema.rows().values() for field in row.fields}
    every |= {field.name for field in schema.run_fields()}
    assert set(renamed.ELSEWHERE.values()) <= every | {"env", "out"}
    assert not set(renamed.ELSEWHERE) & (every | set(renamed.SETTINGS))


def test_python_answers_with_the_name_of_a_setting_and_with_the_algorithms_that_have_it():
    with pytest.raises(UsageError, match=r"total_timesteps'.\nIn estep it is steps\."):
        estep.train("sac", "Pendulum-v1", total_timesteps=100)
    with pytest.raises(UsageError, match="sac has no option 'horizon', which is a setting of mve, "):
        estep.train("sac", "Pendulum-v1", horizon=3)
