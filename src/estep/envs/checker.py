"""The checks of an environment that `estep check-env` makes, each with a name."""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import gymnasium
import numpy as np
import numpy.typing as npt

from estep.envs.actions import action_space
from estep.envs.base import ActionSpace
from estep.envs.build import Source, build, source_name, time_limit
from estep.envs.gymnasium import GymnasiumEnv, Options, wrap
from estep.envs.observations import ObservationSpace, observation_space
from estep.envs.second import build_again
from estep.envs.validation import SimulationClock, is_flag, read_observation, read_reward
from estep.errors import EnvironmentFailure, EstepError, describe

CAP = 1_000
"""Largest number of steps of an episode that is checked."""
REPLAYED = 100
"""Number of steps that are compared between two runs, and after which the restore is checked."""


class Finding(NamedTuple):
    """The result of one check."""

    name: str
    ok: bool
    detail: str


class EpisodeRecord(NamedTuple):
    """One episode of the environment without estep: observations [t + 1], rewards and flags [t], not converted."""

    observations: list[Any]
    rewards: list[Any]
    flags: list[Any]
    was_reset: str
    """How one can see that MuJoCo reset itself, or an empty string."""
    simulated: bool
    """Whether the environment is a MuJoCo simulation."""
    seconds: float
    """Time spent in env.step."""


def check_env(env: Source) -> list[Finding]:
    """Check an environment with two episodes of at most 1,000 steps and a few shorter episodes.

    If a check raises an exception, the later checks are skipped.

    Raises:
        UsageError: there is no such environment.
    """
    findings: list[Finding] = []
    try:
        one = build(env, 1)[0]
        findings.append(Finding("construct", True, source_name(env)))
        observation = observation_space(one.observation_space, "it")
        findings.append(Finding("observation space", True, described(one.observation_space, observation)))
        action = action_space(one.action_space, "it")
        findings.append(Finding("action space", True, action.describe()))
    except EnvironmentFailure as error:
        name = ("construct", "observation space", "action space")[len(findings)]
        return [*findings, Finding(name, False, error.what)]
    try:
        findings += check_episodes(one, observation)
        if all(finding.ok for finding in findings):
            other, fresh = (build_again(env, 1, [one])[0] for _ in range(2))
            findings += [*check_determinism(one, other), check_restore(one, fresh)]
            for copied in (other, fresh):
                check_close(copied)
    except EstepError as error:
        findings.append(Finding("runs", False, f"{error.what} {error.fix}"))
    except (Exception, SystemExit) as error:
        findings.append(Finding("runs", False, describe(error)))
    if not isinstance(env, gymnasium.Env):
        findings += check_close(one)
    return findings


def described(space: Any, read: ObservationSpace) -> str:
    """An observation space in words, with what an image needs."""
    needs = "; pixels need a network of your own: set features" if read.image else ""
    return f"{type(space).__name__} of {read.describe()}{needs}"


def check_close(env: gymnasium.Env[Any, Any]) -> list[Finding]:
    """What is wrong with closing an environment, if anything."""
    try:
        env.close()
    except (Exception, SystemExit) as error:
        return [Finding("close", False, f"raised {describe(error)}")]
    return []


def check_episodes(env: gymnasium.Env[Any, Any], space: ObservationSpace) -> list[Finding]:
    """Check every observation, reward and flag of two episodes."""
    episodes = [run_episode(env, seed, CAP) for seed in (1, 2)]
    observations = [value for episode in episodes for value in episode.observations]
    rewards = [value for episode in episodes for value in episode.rewards]
    flags = [value for episode in episodes for value in episode.flags]
    out = np.empty(space.size, np.float32)
    wrong = next((text for value in observations if (text := read_observation(value, space, out))), "")
    bad_reward = next((repr(value) for value in rewards if np.isnan(read_reward(value))), "")
    bad_flag = next((repr(value) for value in flags if not is_flag(value) or np.asarray(value).dtype != bool), "")
    findings = [
        Finding("observations", not wrong, wrong or "finite, of the declared shape"),
        Finding("rewards", not bad_reward, f"{bad_reward:.60} is not one finite number" if bad_reward else "finite"),
        Finding("flags", not bad_flag, f"{bad_flag:.60} is not a bool" if bad_flag else "bools"),
    ]
    if not wrong:
        findings.append(Finding("observation bounds", *check_bounds(observations, space)))
    if episodes[0].simulated:
        was_reset = episodes[0].was_reset or episodes[1].was_reset
        findings.append(Finding("simulation", not was_reset, was_reset or "MuJoCo never reset itself"))
    steps, seconds = len(rewards), sum(episode.seconds for episode in episodes)
    speed = Finding("speed", True, f"{steps / max(seconds, 1e-9):,.0f} steps/s")
    return [*findings, speed, Finding("time limit", True, describe_limit(env, episodes))]


def describe_limit(env: gymnasium.Env[Any, Any], episodes: list[EpisodeRecord]) -> str:
    """What ends the episodes of an environment. Without a wrapper only the episodes themselves can tell."""
    limit = time_limit(env)
    if limit:
        return f"{limit} steps"
    ended = [len(episode.rewards) for episode in episodes if any(episode.flags)]
    if ended:
        return f"no TimeLimit wrapper; the environment ended an episode itself, after {max(ended)} steps"
    return f"no episode ended within {CAP:,} steps; if none ever ends, wrap it in gymnasium.wrappers.TimeLimit"


def check_bounds(observations: list[Any], space: ObservationSpace) -> tuple[bool, str]:
    """Whether all observations lie within the declared bounds, and a text that says so."""
    rows = np.empty((len(observations), space.size), np.float32)
    for value, row in zip(observations, rows, strict=True):
        read_observation(value, space, row)
    outside = ((rows < space.low) | (rows > space.high)).any(0)
    if not outside.any():
        return True, "all observations lie within them"
    return False, f"{outside.sum()} of {space.size} dimensions leave them"


def check_determinism(first: gymnasium.Env[Any, Any], other: gymnasium.Env[Any, Any]) -> list[Finding]:
    """Whether equal seeds give equal episodes, in the same environment and in a new one."""
    mine, again, new = (run_episode(env, 3, REPLAYED) for env in (first, first, other))
    different = run_episode(first, 4, REPLAYED)
    varied = not equal_bits(mine.observations[:1], different.observations[:1])
    starts = equal_bits(mine.observations[:1], again.observations[:1]) and equal_bits(
        mine.observations[:1], new.observations[:1]
    )
    steps = all(
        equal_bits(mine.observations, x.observations) and equal_bits(mine.rewards, x.rewards) for x in (again, new)
    )
    detail = "different seeds give different starts" if varied else "different seeds give the same start"
    differ = "equal seeds give different starts"
    return [
        Finding("reset determinism", starts, f"equal seeds give equal starts; {detail}" if starts else differ),
        Finding("step determinism", steps, f"equal actions give {'equal' if steps else 'different'} steps"),
    ]


def equal_bits(a: list[Any], b: list[Any]) -> bool:
    """Whether two lists of arrays are equal bit for bit."""
    pairs = zip(a, b, strict=False)
    return len(a) == len(b) and all(bits(x) == bits(y) for x, y in pairs)


def bits(value: Any) -> bytes:
    """The bits of an array, or of all arrays of a dict."""
    if isinstance(value, Mapping):
        return b"".join(bits(value[key]) for key in sorted(value))
    return np.asarray(value).tobytes()


def check_restore(one: gymnasium.Env[Any, Any], other: gymnasium.Env[Any, Any]) -> Finding:
    """Whether replaying an unfinished episode in another environment restores its state. A resumed run needs this."""
    before, after = (wrap([env], None, Options(timeout=0.0)) for env in (one, other))
    actions = random_actions(before.action_space, 2 * REPLAYED)
    before.reset()
    for action in actions[:REPLAYED]:
        before.step(action)
    _, (exact,) = after.restore(before.progress())
    exact = exact and continue_equally(before, after, actions[REPLAYED:])
    return Finding("restore", exact, "exact" if exact else "not exact: a resumed run starts a new episode")


def continue_equally(a: GymnasiumEnv, b: GymnasiumEnv, actions: npt.NDArray[np.float32]) -> bool:
    """Whether two environments give the same observations and rewards for the same actions."""
    pairs = ((a.step(action), b.step(action)) for action in actions)
    return all(equal_bits(list(one[:2]), list(two[:2])) for one, two in pairs)


def random_actions(space: ActionSpace, n: int) -> npt.NDArray[np.float32]:
    """Uniform random actions [n, 1, a], the same in every call."""
    return space.uniform(np.random.default_rng(0), n)[1][:, None]


def run_episode(env: gymnasium.Env[Any, Any], seed: int, cap: int) -> EpisodeRecord:
    """Run one episode with random actions, without estep's own checks.

    Args:
        env: the environment.
        seed: seed of its reset.
        cap: largest number of steps.
    """
    space = action_space(env.action_space, "it")
    actions = space.native(random_actions(space, cap)[:, 0])
    clock = SimulationClock(env)
    first, _ = copy.deepcopy(env.reset(seed=seed))  # some environments later write to the array that they returned
    clock.start()
    record = EpisodeRecord([first], [], [], "", clock.watching, 0.0)
    was_reset, seconds = "", 0.0
    for action in actions:
        begin = time.perf_counter()
        obs, reward, terminated, truncated, _ = env.step(action)
        seconds += time.perf_counter() - begin
        was_reset = was_reset or clock.was_reset()
        record.observations.append(copy.deepcopy(obs))
        record.rewards.append(reward)
        record.flags.extend((terminated, truncated))
        if terminated or truncated:
            break
    return record._replace(was_reset=was_reset, seconds=seconds)
