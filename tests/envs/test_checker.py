"""R29: a zoo of broken environments, each caught by the check named after its fault."""

import os

import gymnasium
import numpy as np
import pytest
from faulty import UNIT, NoGym, Noisy, Plain, Remembering, Simulated, Unseeded, at, raising

from estep.envs.checking.checker import check_env
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


class Changed(Plain):
    """Does one thing otherwise; `how` is a function of the environment and the sound result of reset or step."""

    def __init__(self, reset=lambda env, sound: sound, step=lambda env, sound: sound, **options):
        super().__init__(**options)
        self.changes = {"reset": reset, "step": step}

    def reset(self, **options):
        return self.changes["reset"](self, super().reset(**options))

    def step(self, action):
        self.given = action
        return self.changes["step"](self, super().step(action))


class Unseedable(Plain):
    def reset(self):
        return super().reset(seed=1)


class Writes(Plain):
    def step(self, action):
        action *= 0.5
        return super().step(action)


class Refuses(Plain):
    def step(self, action):
        if abs(action[0]) == 1:
            raise ValueError("outside")
        return super().step(action)


class Shared(Plain):
    """All of them are one simulator."""

    steps = property(lambda self: Shared.count, lambda self, value: setattr(Shared, "count", value))


class Leaves(Plain):
    """Changes the working directory at its second reset, and this test puts it back."""

    def reset(self, **options):
        os.chdir("/")
        return super().reset(**options)


class Wider(Plain):
    """Each one that is made has a wider action space than the one before."""

    made = 0

    def __init__(self):
        Wider.made += 1
        super().__init__(act=gymnasium.spaces.Box(-float(Wider.made), 1.0, (1,), np.float32))


class Floating(Plain):
    """Its observation space is another one each time it is read."""

    reads = 0

    @property
    def observation_space(self):
        Floating.reads += 1
        return gymnasium.spaces.Box(-1e3 - Floating.reads, 1e3, (3,), np.float32)

    @observation_space.setter
    def observation_space(self, space):
        pass


class Tires(Plain):
    """Its fifth episode fails."""

    def __init__(self, fault):
        super().__init__(length=20)
        self.tired = fault

    def step(self, action):
        return self.tired(super().step(action)) if self.episode == 4 else super().step(action)


class Drifts(Plain):
    """Counts its steps over all instances: an episode in a new one does not go on as in the old one."""

    made = 0

    def __init__(self):
        super().__init__(length=0)
        Drifts.made += 1
        self.mine = Drifts.made > 3

    def step(self, action):
        obs, *rest = super().step(action)
        return obs + self.mine, *rest


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
    "opens once": (OpensOnce, "second environment"),
    "takes no seed": (Unseedable, "reset signature"),
    "reset of the old interface": (lambda: Changed(reset=lambda env, sound: sound[0]), "reset result"),
    "step of the old interface": (lambda: Changed(step=lambda env, sound: sound[:3] + sound[4:]), "step result"),
    "info is a list": (lambda: Changed(step=lambda env, sound: (*sound[:4], [])), "info"),
    "first info is None": (lambda: Changed(reset=lambda env, sound: (sound[0], None)), "info"),
    "huge reward": (broken("reward", 1e20), "reward size"),
    "huge observation": (broken("obs", np.array([3, 1e30, 0.5], np.float32)), "observation size"),
    "writes to the action": (Writes, "action"),
    "refuses the bounds": (Refuses, "action bounds"),
    "one simulator for all": (Shared, "independence"),
    "leaves the folder": (Leaves, "surroundings"),
    "spaces change with each": (Wider, "spaces"),
    "spaces change with time": (Floating, "spaces"),
    "raises in the fifth episode": (lambda: Tires(lambda sound: 1 / 0), "later episodes"),
    "nan in the fifth episode": (lambda: Tires(lambda sound: (sound[0], np.nan, *sound[2:])), "later episodes"),
    "goes on otherwise": (Drifts, "restore"),
    "remembers episodes": (Remembering, "step determinism"),
}


def test_the_zoo_has_25_environments_and_nearly_as_many_checks():
    assert len(ZOO) >= 25
    assert len({check for _, check in ZOO.values()}) >= 25


@pytest.mark.parametrize("name", ZOO)
def test_zoo(name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    env, check = ZOO[name]
    found = {finding.name: finding for finding in check_env(env)}
    assert not found[check].ok, found
    assert found[check].detail
    failed = {key for key, finding in found.items() if not finding.ok}
    assert failed <= {check, "step determinism", "restore"}


@pytest.mark.parametrize("name", ["leaves its bounds", "huge reward", "refuses the bounds"])
def test_after_a_wrong_value_the_other_checks_are_made(name):
    found = {finding.name: finding.ok for finding in check_env(ZOO[name][0])}
    assert found["later episodes"]
    assert {"reset determinism", "step determinism", "restore"} <= set(found)


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
            self.mine = Global.made > 3

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
