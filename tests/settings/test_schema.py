"""The forms that flags are made from say what the classes say."""

from __future__ import annotations

import dataclasses
import typing

import pytest

from estep import api
from estep.algorithms import ALGORITHMS, SAC, IterativeSAC
from estep.cli import comparing, configs, health, inspecting, listing, reading, training
from estep.cli.parse import COMMON
from estep.cli.resolve import resolve
from estep.errors import UsageError
from estep.settings import schema
from estep.settings.presets import ANY, changes, find, presets
from estep.settings.run import RunConfig
from estep.sweeps import plan

COMMANDS = [
    *(training.Train, training.Resume, reading.Evaluate, inspecting.Inspect, health.Verify),
    *(
        comparing.Compare,
        listing.Algos,
        listing.Envs,
        listing.Presets,
        listing.Explain,
        configs.Show,
        configs.Diff,
        health.Doctor,
        health.CheckEnv,
    ),
]
CLASSES = {**ALGORITHMS, "run": RunConfig, **{kind.__name__: kind for kind in COMMANDS}}


@pytest.mark.parametrize("name", CLASSES)
def test_a_form_is_its_class(name):
    kind = CLASSES[name]
    found = schema.rows()[name].fields if name in ALGORITHMS else schema.of(kind)
    hints = typing.get_type_hints(kind, include_extras=True)
    wanted = [
        (field.name, hints[field.name], field.default is dataclasses.MISSING, field.default)
        for field in dataclasses.fields(kind)
    ]
    assert [(f.name, f.hint, f.required, dataclasses.MISSING if f.required else f.default) for f in found] == wanted
    assert all(field.help for field in found), "every flag explains itself"


def test_every_algorithm_is_listed_with_its_row():
    assert list(schema.rows()) == list(ALGORITHMS)
    for row in schema.rows().values():
        assert row.summary
        assert "likelihood" in row.table


@pytest.mark.parametrize("name", ALGORITHMS)
def test_no_flag_has_two_meanings(name):
    fields = (*schema.of(training.Train), *schema.run_fields(), *schema.rows()[name].fields, *COMMON)
    names = [field.name for field in fields]
    assert len(names) == len(set(names))
    flags = {field.flag for field in fields}
    assert not any("--no-" + flag.removeprefix("--") in flags for flag in flags)


@pytest.mark.parametrize("preset", presets(), ids=lambda preset: f"{preset.algorithm}-{preset.name}")
def test_a_preset_is_accepted_and_says_where_it_comes_from(preset):
    row, run = ALGORITHMS[preset.algorithm], {field.name for field in dataclasses.fields(RunConfig)}
    RunConfig(**{name: value for name, value in preset.changes.items() if name in run})
    row(**{name: value for name, value in preset.changes.items() if name not in run})
    assert len(preset.source) > 10
    assert find(preset.algorithm, "Another-v0", preset.name) == preset


DISCRETE = {
    "sac": {"CartPole-v1"},
    "mpo": {"CartPole-v1", "Acrobot-v1"},
    "rerpi": {"CartPole-v1"},
    "vmpo": {"CartPole-v1"},
    "soft-pg": {"CartPole-v1"},
}


FRESH = ("vmpo", "soft-pg", "distral", "default-policy", "hierarchical", "compose")
"""Rows that have presets where they were tried, or none."""


@pytest.mark.parametrize(
    ("given", "warmup"),
    [
        ({"steps": 5_000}, 2_500),
        ({"steps": 9_999}, 4_999),
        ({"steps": 10_000}, None),
        ({}, None),
        ({"steps": 400, "warmup_steps": 399}, 399),
        ({"steps": -5}, None),
        ({"steps": "many"}, None),
    ],
)
def test_a_short_run_has_a_short_warm_up_unless_one_is_given(given, warmup):
    assert changes(None, given).get("warmup_steps") == warmup


def test_a_warm_up_of_a_preset_is_shortened_with_the_run_alone():
    assert all(changes(preset, {}) == preset.changes for preset in presets())
    pendulum = find("sac", "Pendulum-v1")
    assert [changes(pendulum, {"steps": steps})["warmup_steps"] for steps in (300, 4_000)] == [150, 1_000]


def test_all_doors_give_a_short_run_the_same_warm_up():
    run = plan.make("sac", ["Nobody-v0"], 0, {}, "auto", {"steps": 3_000})
    by_flags = resolve(schema.find("sac"), "Nobody-v0", "auto", {"steps": 3_000}).run
    by_call = api._settings("sac", "Nobody-v0", "auto", {"steps": 3_000})[2]
    assert {by_flags["warmup_steps"], by_call.warmup_steps, plan.resolved(run)["warmup_steps"]} == {1_500}


def test_presets_are_found_by_environment_and_by_name():
    assert find("sac", "Hopper-v5").env == "Hopper-v5"
    assert find("iterative-sac", "Hopper-v5").changes["beta"] == 2.12
    assert find("sac", "Nobody-v0") is None
    assert find("sac", "Hopper-v5", "none") is None
    paper = find("iterative-sac", "Hopper-v5", "paper")
    assert paper.env == ANY
    assert (paper.changes["samples"], paper.changes["antithetic"]) == (10, False)
    fast = find("iterative-sac", "Hopper-v5", "fast")
    assert dataclasses.replace(IterativeSAC(), **fast.changes) == IterativeSAC()
    with pytest.raises(UsageError, match="Did you mean paper"):
        find("iterative-sac", "Hopper-v5", "papr")
    for algorithm in ALGORITHMS:
        found = {preset.env for preset in presets() if preset.algorithm == algorithm}
        found -= {ANY, "estep/MultiGoal-v0"}
        discrete = {env for env in found if env in DISCRETE["mpo"]}
        assert algorithm in FRESH or len(found - discrete) == 12
        assert discrete == DISCRETE.get(algorithm, set())


@dataclasses.dataclass(frozen=True)
class OfAnother:
    """An algorithm with another one as a setting."""

    base: SAC = SAC()  # noqa: RUF009, a frozen dataclass is no mutable default


def test_a_setting_that_no_folder_can_hold_is_refused_by_name():
    with pytest.raises(UsageError, match=r"setting base of my:OfAnother cannot be recorded: SAC\("):
        schema.row_of("my:OfAnother", OfAnother)
