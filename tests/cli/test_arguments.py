"""What a user can type wrongly, and what is said then."""

from __future__ import annotations

import os
import re

import pytest
from commandline import command
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from estep.cli.main import COMMANDS
from estep.cli.parse import parse
from estep.cli.reading import Evaluate
from estep.settings import schema

TRAIN = ("train", "sac", "--env", "Pendulum-v1")
NEAREST = {
    ("trian",): "train",
    ("train", "sacc"): "sac",
    ("train", "iterative_sac", "--env", "Pendulum-v1"): "iterative-sac",
    ("train", "sac", "--env", "Hoper-v5"): "Hopper-v5",
    (*TRAIN, "--batchsize", "3"): "--batch-size",
    (*TRAIN, "--learning_rte=3"): "--learning-rate",
    (*TRAIN, "--preset", "Hoper-v5"): "Hopper-v5",
    ("algos", "iterative"): "iterative-sac",
    ("presets", "sca"): "sac",
    ("envs", "cheeta-v5"): "HalfCheetah-v5",
    ("config", "shw"): "show",
    ("config", "show", "sca"): "sac",
    ("check-env", "Pendulm-v1"): "Pendulum-v1",
    ("eval", "folder", "--checkpoint", "bets"): "best",
}


@pytest.mark.parametrize("argv", NEAREST, ids=" ".join)
def test_a_misspelt_name_is_answered_with_the_nearest(run, argv):
    ended = run(*argv)
    assert ended.code == 2
    assert ended.out == ""
    assert f"Did you mean {NEAREST[argv]}?" in ended.err
    assert len(ended.err.splitlines()) <= 3


BAD = {
    (): "No command",
    ("train",): "No algorithm",
    ("train", "--env", "Pendulum-v1"): "No algorithm",
    ("train", "sac"): "estep train sac was not given --env",
    ("train", "sac", "Pendulum-v1", "--steps", "3"): "Write --env Pendulum-v1.",
    (*TRAIN, "--env", "Hopper-v5"): "given twice",
    (*TRAIN, "--hidden-sizes", "3", "--hidden-sizes", "4"): "given twice",
    (*TRAIN, "--normalise", "--no-normalise"): "given twice",
    (*TRAIN, "--no-steps"): "--no-steps",
    (*TRAIN, "--gamma", "nan"): "not a finite number",
    (*TRAIN, "--gamma", "1e999"): "not a finite number",
    (*TRAIN, "--env-timeout", "-inf"): "not a finite number",
    (*TRAIN, "--seed", "9" * 400): "too large",
    (*TRAIN, "--steps", "0"): "--steps is 0",
    (*TRAIN, "--steps", "ten"): "--steps is 'ten', which is not a whole number at least 1",
    (*TRAIN, "--steps=1.5"): "--steps is '1.5', which is not a whole number",
    (*TRAIN, "--steps"): "--steps has no value",
    (*TRAIN, "--stop-at", "high"): "--stop-at is 'high', which is not a finite number or none",
    (*TRAIN, "--hidden-sizes", "64,x"): "--hidden-sizes is '64 x', which is not one or more sizes",
    (*TRAIN, "--critic-norm", "Layer"): "--critic-norm is 'Layer', which is not one of none, layer",
    (*TRAIN, "--normalise", "true"): "--normalise takes no value, and was given 'true'",
    (*TRAIN, "--verbose=3"): "--verbose takes no value, and was given '3'",
    (*TRAIN, "-seed", "3"): "no flag '-seed'",
    (*TRAIN, "--total-timesteps", "3"): "In estep it is --steps.",
    (*TRAIN, "--ent-coef", "0.2"): "In estep it is alpha, a setting of sql, ",
    ("train", "sac", "--env-id", "Pendulum-v1"): "In estep it is --env.",
    (*TRAIN, "--horizon", "3"): "estep train sac has no --horizon, which is a setting of mve, ",
    ("eval", "folder", "--gamma", "0.9"): "estep eval has no --gamma, which is a setting of sac, ",
    (*TRAIN, "--gamma", "1.5"): "--gamma is 1.5",
    (*TRAIN, "--hidden-sizes"): "--hidden-sizes is ()",
    (*TRAIN, "stray"): "stray",
    ("resume", "folder", "stray"): "'stray' belongs to no flag",
    ("train", "sac", "--env", "no_such_module_here:X-v0"): "no_such_module_here",
    ("train", "sac", "--env", ""): "no environment",
    ("eval",): "No run is given",
    ("resume",): "estep resume was not given RUN",
    ("eval", "folder", "--episodes", "0"): "--episodes is 0",
    ("resume", "folder", "--steps", "-1"): "--steps is -1",
    ("config",): "show",
    ("doctor", "now"): "now",
}


@pytest.mark.parametrize("json", [False, True])
@pytest.mark.parametrize("argv", BAD, ids=" ".join)
def test_a_bad_value_is_refused_in_three_lines(run, argv, json, tmp_path):
    ended = run(*argv, *(["--json"] if json else []))
    assert ended.code == 2
    assert BAD[argv] in ended.err
    assert len(ended.err.splitlines()) <= 3
    assert "Traceback" not in ended.err
    if json:
        assert len(ended.out.splitlines()) == 1
        assert ended.record["status"] == "error"
        assert ended.record["exit_code"] == 2
        assert BAD[argv] in ended.record["error"]
    else:
        assert ended.out == ""
    assert not list(tmp_path.iterdir())


def test_json_may_stand_anywhere(run):
    assert run("--json", "algos", "sac").record["status"] == "done"
    assert run("--json").record["exit_code"] == 2


@pytest.mark.parametrize("argv", [(), ("train",), ("train", "sac"), ("eval",), ("config",), ("config", "diff")])
def test_help_is_a_result(run, argv):
    ended = run(*argv, "--help")
    assert ended.code == 0
    assert ended.err == ""
    assert ended.out.startswith("usage: estep")


@pytest.mark.parametrize(("argv", "names"), [(("--help",), COMMANDS), (("train", "--help"), schema.rows())])
def test_an_overview_has_a_line_for_each_name(run, argv, names):
    (rows,) = (part.splitlines() for part in run(*argv).out.split("\n\n") if part.startswith("  " + next(iter(names))))
    assert [line.split()[0] for line in rows] == list(names)
    assert all("  " in line.strip() for line in rows)


def test_the_columns_of_flags_never_touch(run):
    lines = [re.split("  +", line) for line in run("algos").out.split("\n")]
    rows = {(line[1], line[-1]) for line in lines if len(line) > 2}
    assert all((field.flag, field.help) in rows for found in schema.rows().values() for field in found.fields)


def test_every_hyperparameter_is_a_flag_with_its_help(run):
    page = " ".join(run("train", "iterative-sac", "--help").out.split())
    for text in (
        "--grad-encoding {log_sign,layer_norm,none}",
        "--learning-rate FLOAT",
        "How far the slow copies move",
        "3.54",
    ):
        assert text in page


WORDS = st.sampled_from(
    [
        *(
            "train",
            "eval",
            "resume",
            "verify",
            "algos",
            "envs",
            "presets",
            "explain",
            "config",
            "show",
            "diff",
            "sac",
            "iterative-sac",
        ),
        *(
            "--env",
            "--steps",
            "--seed",
            "--hidden-sizes",
            "--preset",
            "--checkpoint",
            "--no-antithetic",
            "--antithetic",
            "--json",
        ),
        *("--verbose", "--out", "--out=x", "--", "-", "-h", "--help", "-5", "1e-4", "nan", "auto", "none", "best"),
        *(
            "--env=",
            "--=",
            "--no-",
            "---",
            "*",
            "../..",
            "/dev/null",
            "x" * 3000,
            "\n",
            "\x1b[2J",
            "é",
            "\udc80",
            "[red]",
        ),
    ]
)
ANYTHING = st.text(st.characters(exclude_characters="\x00"), max_size=12)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(argv=st.lists(st.one_of(WORDS, WORDS, ANYTHING), max_size=7))
def test_no_arguments_make_a_mess(argv, tmp_path):
    """`train` cannot get as far as training here: no word of the grammar is an environment's id."""
    ended = command(*argv)
    if "-h" in argv or "--help" in argv:
        assert ended.code in (0, 2)
    else:
        assert ended.code in (0, 2, 3)
    assert "Traceback" not in ended.err or "--verbose" in argv
    if "--verbose" not in argv:
        assert len(ended.err.splitlines()) <= 3
    if "--json" in argv and not {"-h", "--help", "help"} & set(argv):
        assert ended.record["status"] == ("done" if ended.code == 0 else "error")
    assert ended.code == 0 or ended.err
    assert "\x1b" not in ended.out + ended.err
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize(
    "argv",
    [
        ["--env", "A", "B", "runs/x"],
        ["runs/x", "--env", "A", "B"],
        ["--env", "A", "B", "--episodes", "3", "runs/x"],
        ["--env", "A", "B", "runs/x", "--episodes", "3"],
        ["--json", "runs/x", "--env", "A", "B", "--episodes=3"],
        ["--episodes", "3", "runs/x", "--env", "A", "B"],
        ["--env", "A", "B", "--", "runs/x"],
    ],
)
def test_several_environments_and_the_run_in_any_order(argv):
    values, named = parse("estep eval", "", schema.of(Evaluate), ("runs",), argv)
    assert (values["runs"], values["env"]) == (("runs/x",), ("A", "B"))
    assert "env" in named


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        (["--steps", "1e6"], "steps", 1_000_000),
        (["--steps=2.5e3"], "steps", 2_500),
        (["--seed", "07"], "seed", 7),
        (["--hidden-sizes", "64,32"], "hidden_sizes", (64, 32)),
        (["--hidden-sizes", "[64, 32]"], "hidden_sizes", (64, 32)),
        (["--hidden-sizes=64,32"], "hidden_sizes", (64, 32)),
        (["--hidden-sizes", "64", "32"], "hidden_sizes", (64, 32)),
        (["--stop-at", "-1e2"], "stop_at", -100.0),
    ],
)
def test_numbers_and_lists_are_read_as_people_write_them(words, name, value):
    fields = (*schema.rows()["sac"].fields, *schema.run_fields())
    found = parse("estep train sac", "", fields, (), words)
    assert found.values[name] == value
    assert found.given == {name}


def test_only_values_of_a_flag_become_digits():
    values, _ = parse("estep eval", "", schema.of(Evaluate), ("runs",), ["--episodes", "1e1", "2e3"])
    assert (values["episodes"], values["runs"]) == (10, ("2e3",))
