"""The checks of an environment that `estep check-env` makes, each with a name."""

from __future__ import annotations

import os
import signal
import warnings
from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt

from estep.envs.actions import action_space
from estep.envs.build import Source, build, source_name, time_limit
from estep.envs.checking.episodes import (
    Broken,
    EpisodeRecord,
    Finding,
    begin,
    equal_bits,
    raised,
    random_actions,
    run_episode,
    step,
)
from estep.envs.guard.watch import UNWATCHED, Watch
from estep.envs.gymnasium import GymnasiumEnv, Options, wrap
from estep.envs.observations import ObservationSpace, observation_space
from estep.envs.second import build_again, independent
from estep.envs.validation import is_flag, read_observation, read_reward
from estep.errors import EnvironmentFailure, EstepError, UsageError, describe_raised

CAP = 1_000
"""Largest number of steps of an episode that is checked."""
REPLAYED = 100
"""Number of steps that are compared between two runs, and after which the restore is checked."""
LATER, SHORT = 6, 50
"""After the two episodes that are checked in full come so many more, of at most so many steps."""
LARGEST_REWARD, LARGEST_OBSERVATION = 1e5, 1e6
"""Beyond these a critic or a network learns badly. Rewards near 1 and observations near 1 are best."""
OF_VALUES = {"observation bounds", "observation size", "reward size", "action bounds"}
"""Checks that may fail in an environment that runs: the later ones are made all the same."""


def check_env(env: Source, watch: Watch = UNWATCHED) -> list[Finding]:
    """Check an environment with two episodes of at most 1,000 steps and a few shorter episodes.

    If a check raises an exception, the later checks are skipped.

    Args:
        env: the environment.
        watch: measures how long its calls take.

    Raises:
        UsageError: there is no such environment.
    """
    findings: list[Finding] = []
    try:
        one = build(env, 1, watch)[0]
        findings.append(Finding("construct", True, source_name(env)))
        observation = observation_space(one.observation_space, "it")
        findings.append(Finding("observation space", True, described(one.observation_space, observation)))
        action = action_space(one.action_space, "it")
        findings.append(Finding("action space", True, action.describe()))
    except EnvironmentFailure as error:
        name = ("construct", "observation space", "action space")[len(findings)]
        return [*findings, Finding(name, False, error.what)]
    findings += check_running(env, one, observation, watch)
    if not isinstance(env, gymnasium.Env):
        findings += check_close(one, watch)
    return findings


def check_running(source: Source, env: gymnasium.Env[Any, Any], space: ObservationSpace, watch: Watch) -> list[Finding]:
    """All checks of an environment that exists. `source` made it."""
    findings: list[Finding] = []
    try:
        before = surroundings()
        findings += check_episodes(env, space, watch)
        if runs(findings):  # else later episodes have the same fault
            findings.append(check_later(env, space, watch, {finding.name for finding in findings if not finding.ok}))
        findings.append(check_bounds_of_actions(env, watch))
        findings += [check_spaces(source, env, watch), check_surroundings(before)]
        if runs(findings):
            with warnings.catch_warnings():  # of bounds that observations leave, which a finding tells
                warnings.simplefilter("ignore", RuntimeWarning)
                findings += check_copies(source, env, watch)
    except Broken as broken:
        name, detail = broken.args
        findings.append(Finding(name, False, detail))
    except EstepError as error:
        findings.append(Finding("runs", False, f"{error.what} {error.fix}"))
    except (Exception, SystemExit) as error:
        findings.append(Finding("runs", False, describe_raised(error)))
    return findings


def runs(findings: list[Finding]) -> bool:
    """Whether an environment can be run on, by the checks so far."""
    return all(finding.ok or finding.name in OF_VALUES for finding in findings)


def surroundings() -> dict[str, Any]:
    """What belongs to the whole process, and no environment should change."""
    signals = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    return {"the working directory": os.getcwd(), "NumPy's handling of errors": np.geterr(), "signal handlers": signals}


def check_surroundings(before: Mapping[str, Any]) -> Finding:
    """Whether the environment left the process as it was."""
    now = surroundings()
    changed = [name for name, value in before.items() if now[name] != value]
    return Finding("surroundings", not changed, f"it changed {', '.join(changed)}" if changed else "left as they were")


def check_bounds_of_actions(env: gymnasium.Env[Any, Any], watch: Watch) -> Finding:
    """Whether the environment takes the smallest and the largest action that its space allows."""
    space = action_space(env.action_space, "it")
    ends = np.stack([np.full(space.size, -1.0, np.float32), np.full(space.size, 1.0, np.float32)])
    try:
        for action in () if space.factors else space.native(ends):
            begin(env, 5, watch)
            step(env, action, watch)
    except (Exception, SystemExit) as error:
        return Finding(
            "action bounds", False, f"it refuses an action at the bounds of its space: {describe_raised(error)}"
        )
    return Finding("action bounds", True, "it takes every action of its space")


def check_later(env: gymnasium.Env[Any, Any], space: ObservationSpace, watch: Watch, known: set[str]) -> Finding:
    """Whether episodes after the second are as sound as the first two, in which the checks `known` failed."""
    for number in range(LATER):
        try:
            episode = run_episode(env, 10 + number, SHORT, watch)
        except (Exception, SystemExit) as error:
            return Finding("later episodes", False, f"episode {number + 3} {raised(error)}")
        wrong = next(
            (found for found in check_values([episode], space) if not found.ok and found.name not in known), None
        )
        if wrong:
            return Finding("later episodes", False, f"episode {number + 3}: {wrong.name}: {wrong.detail}")
    return Finding("later episodes", True, "as sound as the first two")


def check_spaces(source: Source, env: gymnasium.Env[Any, Any], watch: Watch) -> Finding:
    """Whether the spaces are the same after some episodes, and in another environment that is made in the same way."""
    spaces = [env.observation_space, env.action_space]
    if spaces != [watch.run(getattr, env, name) for name in ("observation_space", "action_space")]:
        return Finding("spaces", False, "they change each time they are read")
    try:
        (other,) = build_again(source, 1, [env], watch)
    except (UsageError, EnvironmentFailure) as error:
        raise Broken("second environment", error.what) from error
    made = [other.observation_space, other.action_space]
    check_close(other, watch)
    return Finding("spaces", made == spaces, "always the same" if made == spaces else "they are others each time")


def check_copies(source: Source, env: gymnasium.Env[Any, Any], watch: Watch) -> list[Finding]:
    """The checks that need more than one environment."""
    other, fresh = (build_again(source, 1, [env], watch)[0] for _ in range(2))
    findings = check_determinism(env, other, watch)
    if all(finding.ok for finding in findings):
        alone = independent(env, other, watch)
        detail = "two of them do not touch each other" if alone else "the steps of one change those of the other"
        findings.append(Finding("independence", alone, detail))
    findings.append(check_restore(env, fresh, watch))
    for copied in (other, fresh):
        check_close(copied, watch)
    return findings


def described(space: Any, read: ObservationSpace) -> str:
    """An observation space in words, with what an image needs."""
    needs = "; pixels need a network of your own: set features" if read.image else ""
    return f"{type(space).__name__} of {read.describe()}{needs}"


def check_close(env: gymnasium.Env[Any, Any], watch: Watch) -> list[Finding]:
    """What is wrong with closing an environment, if anything."""
    try:
        watch.run(env.close)
    except (Exception, SystemExit) as error:
        return [Finding("close", False, raised(error))]
    return []


def check_episodes(env: gymnasium.Env[Any, Any], space: ObservationSpace, watch: Watch) -> list[Finding]:
    """Check every observation, reward, flag and info of two episodes."""
    episodes = [run_episode(env, seed, CAP, watch) for seed in (1, 2)]
    findings = check_values(episodes, space)
    if episodes[0].simulated:
        was_reset = episodes[0].was_reset or episodes[1].was_reset
        findings.append(Finding("simulation", not was_reset, was_reset or "MuJoCo never reset itself"))
    steps, seconds = sum(len(one.rewards) for one in episodes), sum(one.seconds for one in episodes)
    speed = Finding("speed", True, f"{steps / max(seconds, 1e-9):,.0f} steps/s")
    return [*findings, speed, Finding("time limit", True, describe_limit(env, episodes))]


def check_values(episodes: list[EpisodeRecord], space: ObservationSpace) -> list[Finding]:
    """Check every observation, reward, flag and info of some episodes."""
    observations, rewards, flags, infos = [
        [value for episode in episodes for value in getattr(episode, name)]
        for name in ("observations", "rewards", "flags", "infos")
    ]
    rows = np.empty((len(observations), space.size), np.float32)
    wrong = [
        text for value, row in zip(observations, rows, strict=True) if (text := read_observation(value, space, row))
    ]
    numbers = np.array([read_reward(value) for value in rewards])
    bad_reward = next((repr(value) for value, number in zip(rewards, numbers, strict=True) if np.isnan(number)), "")
    bad_flag = next((repr(value) for value in flags if not is_flag(value) or np.asarray(value).dtype != bool), "")
    bad_info = next((type(value).__name__ for value in infos if not isinstance(value, dict)), "")
    findings = [
        Finding("observations", not wrong, wrong[0] if wrong else "finite, of the declared shape"),
        Finding("rewards", not bad_reward, f"{bad_reward:.60} is not one finite number" if bad_reward else "finite"),
        Finding("flags", not bad_flag, f"{bad_flag:.60} is not a bool" if bad_flag else "bools"),
        Finding("info", not bad_info, f"it is a {bad_info}, not a dict" if bad_info else "dicts"),
    ]
    if not bad_reward:
        findings.append(check_size("reward size", numbers, LARGEST_REWARD, "scale rewards down (--reward-scale)"))
    if not wrong:
        findings.append(Finding("observation bounds", *check_bounds(rows, space)))
        fix = "scale them, or train with --normalise"
        findings.append(check_size("observation size", rows, LARGEST_OBSERVATION, fix))
    return findings


def check_size(name: str, numbers: npt.NDArray[Any], limit: float, fix: str) -> Finding:
    """Whether numbers are small enough to be learned from."""
    largest = float(np.abs(numbers).max(initial=0.0))
    text = f"up to {largest:.3g}"
    return Finding(name, largest <= limit, text if largest <= limit else f"{text}, beyond {limit:g}: {fix}")


def describe_limit(env: gymnasium.Env[Any, Any], episodes: list[EpisodeRecord]) -> str:
    """What ends the episodes of an environment. Without a wrapper only the episodes themselves can tell."""
    limit = time_limit(env)
    if limit:
        return f"{limit} steps"
    ended = [len(episode.rewards) for episode in episodes if any(episode.flags)]
    if ended:
        return f"no TimeLimit wrapper; the environment ended an episode itself, after {max(ended)} steps"
    return f"no episode ended within {CAP:,} steps; if none ever ends, wrap it in gymnasium.wrappers.TimeLimit"


def check_bounds(rows: npt.NDArray[Any], space: ObservationSpace) -> tuple[bool, str]:
    """Whether all observations [n, o] lie within the declared bounds, and a text that says so."""
    outside = ((rows < space.low) | (rows > space.high)).any(0)
    if not outside.any():
        return True, "all observations lie within them"
    return False, f"{outside.sum()} of {space.size} dimensions leave them"


def check_determinism(first: gymnasium.Env[Any, Any], other: gymnasium.Env[Any, Any], watch: Watch) -> list[Finding]:
    """Whether equal seeds give equal episodes, in the same environment and in a new one."""
    mine, again, new = (run_episode(env, 3, REPLAYED, watch) for env in (first, first, other))
    different = run_episode(first, 4, REPLAYED, watch)
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


def check_restore(one: gymnasium.Env[Any, Any], other: gymnasium.Env[Any, Any], watch: Watch) -> Finding:
    """Whether replaying an unfinished episode in another environment restores its state. A resumed run needs this."""
    before, after = (wrap([env], None, Options(), watch=watch) for env in (one, other))
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
