"""Discrete actions by the command line: train, resume, evaluate, act."""

import gymnasium
import numpy as np
import pytest

import estep
from estep.runs import checkpoint

SIZE = (
    "--hidden-sizes",
    "8",
    "--batch-size",
    "16",
    "--updates-per-call",
    "4",
    "--warmup-steps",
    "60",
    "--eval-episodes",
    "2",
)
OFTEN = ("--checkpoint-every", "100", "--eval-every", "150", "--num-envs", "2", "--normalise")


@pytest.mark.long
def test_a_run_on_cartpole_goes_on_exactly_and_acts_in_integers(run, tmp_path):
    train = ("train", "sac", "--env", "CartPole-v1", "--preset", "none", *SIZE, *OFTEN)
    assert run(*train, "--steps", "300", "--out", "whole").code == 0
    assert run(*train, "--steps", "200", "--out", "parts").code == 0
    whole, parts = (next((tmp_path / out).glob("*/*/*/run.json")).parent for out in ("whole", "parts"))
    assert run("resume", str(parts), "--steps", "300").code == 0
    one, other = (checkpoint.load(checkpoint.newest(folder)[0], None, None) for folder in (whole, parts))
    for file, arrays in one.tensors.items():
        for name, array in arrays.items():
            np.testing.assert_array_equal(array, other.tensors[file][name], err_msg=f"{file} {name}")
    assert one.meta["action"] == {"n": 2, "start": 0, "dtype": "int64"}
    assert run("eval", str(whole), "--episodes", "2", "--json").record["eval_mean"] >= 1

    policy, space = estep.load(whole), gymnasium.spaces.Discrete(2)
    chosen = policy.act([0.1, 0.0, -0.1, 0.0])
    assert (chosen.shape, chosen.dtype) == ((), np.int64)
    assert space.contains(chosen[()])
    many = policy.act(np.random.default_rng(0).normal(size=(50, 4)), deterministic=False)
    assert (many.shape, many.dtype) == ((50,), np.int64)
    assert set(many) == {0, 1}


def test_rows_for_continuous_actions_refuse(run):
    ended = run("train", "sql", "--env", "CartPole-v1", *SIZE)
    assert ended.code == 2
    assert "continuous actions" in ended.err
    assert "sac or mpo" in ended.err
