"""Environments to break: a counter whose observation tells the step and the episode, with faults put in by hand."""

import gymnasium
import numpy as np

from estep.envs.gymnasium import make

BOX = gymnasium.spaces.Box(-np.inf, np.inf, (3,), np.float32)
UNIT = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)


class Counter(gymnasium.Env):
    """obs = [step, episode, noise of the seed]; ends after `length` steps (0: never), terminated or truncated."""

    tells_episode = True

    def __init__(self, length=5, terminates=True, act=UNIT, obs=BOX, fault=None):
        self.observation_space, self.action_space = obs, act
        self.length, self.terminates, self.fault = length, terminates, fault or (lambda env, kind, value: value)
        self.episode, self.steps, self.actions, self.seeds = -1, 0, [], []

    def _obs(self):
        return np.array([self.steps, self.episode * self.tells_episode, self.noise], np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.seeds.append(seed)
        self.noise = self.np_random.uniform()
        self.episode, self.steps = self.episode + 1, 0
        return self.fault(self, "obs", self._obs()), {}

    def step(self, action):
        self.actions.append(action)
        self.steps += 1
        done = self.steps == self.length
        flags = done and self.terminates, done and not self.terminates
        reward = self.fault(self, "reward", float(self.steps))
        return self.fault(self, "obs", self._obs()), reward, *self.fault(self, "flags", flags), {}


def at(step, kind, value, episode=None):
    """A fault: replace the value of a kind at one step (None: at every step) of an episode (None: every)."""

    def fault(env, asked, sound):
        hit = asked == kind and step in (None, env.steps) and episode in (None, env.episode)
        return value if hit else sound

    return fault


def raising(step):
    """A fault: raise at a step."""

    def fault(env, asked, sound):
        if asked == "obs" and env.steps == step:
            raise RuntimeError("boom")
        return sound

    return fault


class Cached(Counter):
    """One array for all observations, written to in place."""

    def _obs(self):
        self.array = getattr(self, "array", np.zeros(3, np.float32))
        self.array[:] = self.steps, self.episode, self.noise
        return self.array


class Plain(Counter):
    """What it gives depends on nothing but the seed and the actions."""

    tells_episode = False


class Unseeded(Plain):
    """Starts do not follow the seed."""

    def __init__(self):
        super().__init__(length=0)
        self.random = np.random.default_rng()

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.noise = self.random.uniform()
        return self._obs(), {}


class Noisy(Plain):
    """Steps do not follow the seed."""

    def __init__(self):
        super().__init__(length=0)
        self.random = np.random.default_rng()

    def step(self, action):
        self.noise = self.random.uniform()
        return super().step(action)


class Data:
    """Looks like MjData."""

    def __init__(self):
        self.time = 0.0
        self.warning = [type("Warning", (), {"number": 0})() for _ in range(8)]


class Simulated(Plain):
    """Has a simulator that is unstable at one step, and that the environment resets itself at another one.

    As MuJoCo does: a reset sets time and counts to 0, and an unstable state is counted after it.
    """

    def __init__(self, unstable=0, respawn=0, waits=()):
        super().__init__(length=0)
        self.data, self.unstable, self.respawn, self.waits = Data(), unstable, respawn, waits

    def reset(self, *, seed=None, options=None):
        self.restart()
        return super().reset(seed=seed)

    def restart(self):
        self.data.time = 0.0
        for warning in self.data.warning:
            warning.number = 0

    def step(self, action):
        out = super().step(action)
        if self.steps not in self.waits:
            self.data.time += 0.1
        if self.steps in (self.respawn, self.unstable):
            self.restart()
        self.data.warning[5].number += self.steps == self.unstable
        return out


class Remembering(Plain):
    """Carries state over resets, so a replayed episode in a new environment differs."""

    def __init__(self):
        super().__init__(length=0)
        self.ever = 0

    def step(self, action):
        self.ever += 1
        obs, *rest = super().step(action)
        return obs + np.float32(self.ever > 150), *rest


class NoGym:
    """Not a gymnasium.Env."""


def quiet(env, **options):
    """Unwatched environments."""
    return make(env, timeout=0.0, **options)


def act(n=1, size=1, value=0.0):
    """The same action for every environment and dimension."""
    return np.full((n, size), value, np.float32)


def roll(env, actions):
    """One step for each action."""
    return [env.step(action) for action in actions]
