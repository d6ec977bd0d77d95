"""Named checks of an environment, for `estep check-env`."""

from __future__ import annotations

import copy
import time
from typing import Any, NamedTuple

import gymnasium
import numpy as np
import numpy.typing as npt

from estep.envs.build import EVAL, Source, build, source_name, time_limit
from estep.envs.gymnasium import GymnasiumEnv, make
from estep.envs.spaces import ActionSpace, ObservationSpace, action_space, observation_space
from estep.envs.validation import SimulationClock, read_observation, read_reward
from estep.errors import EnvironmentFailure, EstepError

CAP = 1_000
"""Steps of one episode that are looked at."""
REPLAYED = 100
"""Steps after which the restore is tried and for which two runs are compared."""


class Finding(NamedTuple):
    """What one check found."""

    name: str
    ok: bool
    detail: str


class Visit(NamedTuple):
    """What the bare environment gave in one episode: observations [t + 1], rewards and flags [t], as they came."""

    observations: list[Any]
    rewards: list[Any]
    flags: list[Any]
    was_reset: str
    """What shows that MuJoCo reset itself, or an empty string."""
    simulated: bool
    seconds: float
    """Time spent in env.step."""


def check_env(env: Source) -> list[Finding]:
    """Check an environment by two episodes of at most 1,000 steps and a few shorter ones.

    Copies of an instance are made from its spec. A check that cannot go on ends the list. Raises UsageError where
    there is no environment to check, or an instance without a spec.
    """
    findings: list[Finding] = []
    try:
        one = build(env, 1, EVAL)[0]
        findings.append(Finding("construct", True, source_name(env)))
        observation = observation_space(one.observation_space, "it")
        findings.append(Finding("observation space", True, f"Box of {observation.size}"))
        action = action_space(one.action_space, "it")
        findings.append(Finding("action space", True, action.describe()))
    except EnvironmentFailure as error:
        name = ("construct", "observation space", "action space")[len(findings)]
        return [*findings, Finding(name, False, error.what)]
    try:
        findings += visited(one, observation)
        if all(finding.ok for finding in findings):
            findings += [*repeated(one, build(env, 1, EVAL)[0]), restored(env)]
    except EstepError as error:
        findings.append(Finding("runs", False, error.what))
    except Exception as error:
        findings.append(Finding("runs", False, f"{type(error).__name__}: {error}"))
    limit = time_limit(one)
    findings.append(Finding("time limit", limit is not None, f"{limit} steps" if limit else "none: set one"))
    one.close()
    return findings


def visited(env: gymnasium.Env[Any, Any], space: ObservationSpace) -> list[Finding]:
    """Two episodes, screened value by value."""
    visits = [visit(env, seed, CAP) for seed in (1, 2)]
    observations = [value for one in visits for value in one.observations]
    rewards = [value for one in visits for value in one.rewards]
    flags = [value for one in visits for value in one.flags]
    out = np.empty(space.size, np.float32)
    wrong = next((text for value in observations if (text := read_observation(value, space, out))), "")
    bad_reward = next((repr(value) for value in rewards if np.isnan(read_reward(value))), "")
    bad_flag = next((repr(value) for value in flags if not isinstance(value, bool | np.bool_)), "")
    findings = [
        Finding("observations", not wrong, wrong or "finite, of the declared shape"),
        Finding("rewards", not bad_reward, f"{bad_reward:.60} is not one finite number" if bad_reward else "finite"),
        Finding("flags", not bad_flag, f"{bad_flag:.60} is not a bool" if bad_flag else "bools"),
    ]
    if not wrong:
        findings.append(Finding("observation bounds", *inside(observations, space)))
    if visits[0].simulated:
        was_reset = visits[0].was_reset or visits[1].was_reset
        findings.append(Finding("simulation time", not was_reset, was_reset or "increases at every step"))
    steps, seconds = len(rewards), sum(one.seconds for one in visits)
    findings.append(Finding("speed", True, f"{steps / max(seconds, 1e-9):,.0f} steps/s"))
    return findings


def inside(observations: list[Any], space: ObservationSpace) -> tuple[bool, str]:
    """Whether the observations keep to their declared bounds."""
    rows = np.stack([np.asarray(value, np.float32).reshape(-1) for value in observations])
    outside = ((rows < space.low) | (rows > space.high)).any(0)
    return not outside.any(), f"left by {outside.sum()} of {space.size} dimensions" if outside.any() else "kept to"


def repeated(first: gymnasium.Env[Any, Any], other: gymnasium.Env[Any, Any]) -> list[Finding]:
    """Whether a seed decides an episode, in the same environment again and in a new one."""
    mine, again, new = (visit(env, 3, REPLAYED) for env in (first, first, other))
    different = visit(first, 4, REPLAYED)
    varied = not same(mine.observations[:1], different.observations[:1])
    starts = same(mine.observations[:1], again.observations[:1]) and same(mine.observations[:1], new.observations[:1])
    steps = all(same(mine.observations, x.observations) and same(mine.rewards, x.rewards) for x in (again, new))
    other.close()
    detail = "two seeds differ" if varied else "two seeds give one start"
    return [
        Finding("reset determinism", starts, f"equal seeds give equal starts; {detail}" if starts else "starts differ"),
        Finding("step determinism", steps, "equal actions give equal steps" if steps else "equal actions differ"),
    ]


def same(a: list[Any], b: list[Any]) -> bool:
    """Whether two lists of arrays are equal bit for bit."""
    pairs = zip(a, b, strict=False)
    return len(a) == len(b) and all(np.asarray(x).tobytes() == np.asarray(y).tobytes() for x, y in pairs)


def restored(source: Source) -> Finding:
    """Whether replaying an open episode in a new environment ends in the same state, as a resumed run needs."""
    before, after = make(source, stream=EVAL, timeout=0.0), make(source, stream=EVAL, timeout=0.0)
    actions = random_actions(before.action_space, 2 * REPLAYED)
    before.reset()
    for action in actions[:REPLAYED]:
        before.step(action)
    _, (exact,) = after.restore(before.progress())
    exact = exact and goes_on_alike(before, after, actions[REPLAYED:])
    before.close()
    after.close()
    return Finding("restore", exact, "exact" if exact else "a resumed run starts a new episode")


def goes_on_alike(a: GymnasiumEnv, b: GymnasiumEnv, actions: npt.NDArray[np.float32]) -> bool:
    """Whether two environments give the same observations and rewards for the same actions."""
    pairs = ((a.step(action), b.step(action)) for action in actions)
    return all(same(list(one[:2]), list(two[:2])) for one, two in pairs)


def random_actions(space: ActionSpace, n: int) -> npt.NDArray[np.float32]:
    """Uniform actions [n, 1, a], the same every time."""
    return space.uniform(np.random.default_rng(0), n)[1][:, None]


def visit(env: gymnasium.Env[Any, Any], seed: int, cap: int) -> Visit:
    """One episode of the bare environment with random actions, at most `cap` steps."""
    space = action_space(env.action_space, "it")
    actions = space.native(random_actions(space, cap)[:, 0])
    clock = SimulationClock(env)
    first, _ = copy.deepcopy(env.reset(seed=seed))  # some environments write to what they returned
    clock.start()
    record = Visit([first], [], [], "", clock.watching, 0.0)
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
