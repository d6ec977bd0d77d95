"""A small study of real trials on a cluster that Ray starts on this machine."""

import importlib.util

import pytest
from commandline import command

SMALL = (
    "--hidden-sizes",
    "8",
    "--batch-size",
    "16",
    "--warmup-steps",
    "60",
    "--eval-episodes",
    "1",
    "--eval-every",
    "0",
)
ABOUT = ("--env", "Pendulum-v1", "--seeds", "0", "--fresh", "1", "--trials", "4", "--checkpoint-every", "0", "--json")


def tune(folder, *words):
    """What `estep tune sac` with these words reports of four trials. The test is skipped where an extra is missing."""
    pytest.importorskip("optuna", reason="Optuna is an extra")
    if importlib.util.find_spec("ray") is None:  # imported before the command sets a token, Ray would have none
        pytest.skip("Ray Tune is an extra")
    where = ("--on", "ray", "--address", "local", "--out", str(folder))
    ended = command("tune", "sac", *ABOUT, *SMALL, *where, *words)
    assert ended.code == 0, ended.err
    return ended.record
