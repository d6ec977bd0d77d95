"""R29: a zoo of broken environments, each caught by the check named after its fault."""

import gymnasium
import numpy as np
import pytest
from faulty import UNIT, NoGym, Noisy, Plain, Remembering, Simulated, Unseeded, at, raising

from estep.envs.checker import check_env
from estep.errors import UsageError


class Unclosable(Plain):
    def close(self):
        raise RuntimeError("the window is gone")


class OpensOnce(Plain):
    """A device."""

    taken = False

    def __init__(self):
        if OpensOnce.taken:
            raise OSError("device busy")
        OpensOnce.taken = True
        super().__init__()


BOUNDED = gymnasium.spaces.Box(0.0, 3.0, (3,), np.float32)
INFINITE = gymnasium.spaces.Box(-np.inf, np.inf, (1,), np.float32)


def broken(kind, value, step=3):
    return lambda: Plain(fault=at(step, kind, value))


ZOO = {
    "not an environment": (NoGym, "construct"),
    "raises when made": (lambda: 1 / 0, "construct"),
    "text observation": (lambda: Plain(obs=gymnasium.spaces.Text(4)), "observation space"),
    "two actions at once": (lambda: Plain(act=gymnasium.spaces.Tuple((UNIT, UNIT))), "action space"),
    "infinite bounds": (lambda: Plain(act=INFINITE), "action space"),
    "random start": (Unseeded, "reset determinism"),
    "random step": (Noisy, "step determinism"),
    "nan observation": (broken("obs", np.full(3, np.nan, np.float32)), "observations"),
    "bad first observation": (broken("obs", np.zeros(2), 0), "observations"),
    "list observation": (broken("obs", [0.0, 0.0, 0.0]), "observations"),
    "leaves its bounds": (lambda: Plain(obs=BOUNDED), "observation bounds"),
    "nan reward": (broken("reward", np.nan), "rewards"),
    "vector reward": (broken("reward", np.zeros(1)), "rewards"),
    "integer flags": (broken("flags", (0, 1)), "flags"),
    "raises in a step": (lambda: Plain(fault=raising(3)), "runs"),
    "unstable simulation": (lambda: Simulated(unstable=4), "simulation"),
    "close raises": (Unclosable, "close"),
    "opens once": (OpensOnce, "runs"),
    "remembers episodes": (Remembering, "step determinism"),
}


@pytest.mark.parametrize("name", ZOO)
def test_zoo(name):
    env, check = ZOO[name]
    found = {finding.name: finding for finding in check_env(env)}
    assert not found[check].ok, found
    assert found[check].detail
    failed = {key for key, finding in found.items() if not finding.ok}
    assert failed <= {check, "step determinism", "restore"}


@pytest.mark.parametrize(
    ("env", "said"),
    [
        (lambda: Plain(length=7), "ended an episode itself, after 7 steps"),
        (lambda: Plain(length=0), "no episode ended within 1,000 steps"),
        (lambda: gymnasium.wrappers.TimeLimit(Plain(), 30), "30 steps"),
    ],
)
def test_an_environment_may_end_its_own_episodes(env, said):
    found = {finding.name: finding for finding in check_env(env)}
    assert all(finding.ok for finding in found.values()), found
    assert said in found["time limit"].detail


def test_an_instance_is_checked_beside_its_copies_and_stays_open():
    class Window(Plain):
        closed = False

        def close(self):
            self.closed = True

    env = Window(length=7)
    assert all(finding.ok for finding in check_env(env))
    assert not env.closed


def test_a_restore_that_is_not_exact():
    """Each fresh environment counts on from the one before, as one with a global would."""

    class Global(Plain):
        made = 0

        def __init__(self):
            super().__init__(length=0)
            Global.made += 1
            self.mine = Global.made > 2

        def step(self, action):
            obs, *rest = super().step(action)
            return obs + self.mine, *rest

    found = {finding.name: finding.ok for finding in check_env(Global)}
    assert found["step determinism"]
    assert not found["restore"]


@pytest.mark.parametrize("name", ["Pendulum-v1", "HalfCheetah-v5"])
def test_sound_environments_pass(name):
    findings = check_env(name)
    assert all(finding.ok for finding in findings), findings
    names = {finding.name for finding in findings}
    assert {"restore", "reset determinism", "speed", "time limit"} <= names
    assert ("simulation" in names) == (name == "HalfCheetah-v5")


def test_unknown_id_is_a_usage_error():
    with pytest.raises(UsageError):
        check_env("HalfCheetah-v55")
