"""A worker process: it steps environments for a run, in memory that both share. It imports no JAX."""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import gymnasium
import numpy as np

from estep.envs.build import build, env_name, time_limit
from estep.envs.elsewhere.layout import (
    HEAD,
    OUTCOMES,
    RESET,
    RESETTING,
    STEP,
    Answers,
    Array,
    Raised,
    answers,
    leaves,
    record,
)
from estep.envs.paths import find
from estep.errors import EstepError, describe_raised
from estep.settings import references

NUMBER = (bool, np.bool_, int, float, np.floating)
PLAIN = (float, np.floating)
FLAG = (bool, np.bool_)
FLOATS = (np.dtype(np.float32), np.dtype(np.float64))
DIE_WITH_PARENT = 1
"""PR_SET_PDEATHSIG of Linux."""


class Simulation:
    """What MuJoCo counts in an environment, as `SimulationClock` reads it."""

    def __init__(self, env: Any) -> None:
        self._env, self._items = env, list[Any]()
        self._data: Any = None

    def write(self, answer: Answers, row: int, begins: bool) -> None:
        """Write the time and the counts of warnings. `begins` says that an episode has begun."""
        try:
            if begins:
                self._data = getattr(self._env.unwrapped, "data", None)
                self._items = [] if self._data is None else [self._data.warning[kind] for kind in RESETTING]
            if self._data is not None:
                answer.time[row] = self._data.time
                answer.warnings[row] = [item.number for item in self._items]
        except Exception:  # no MuJoCo environment
            self._data = None
        answer.simulated[row] = self._data is not None


class Place:
    """The environments of one kind in this worker."""

    def __init__(self, envs: list[gymnasium.Env[Any, Any]], begin: Callable[[int], None]) -> None:
        self.envs, self._begin = envs, begin
        first = envs[0]
        self.facts = first.observation_space, first.action_space, time_limit(first), env_name(first)
        self._paths = [leaf.path for leaf in leaves(first.observation_space)]
        self._simulations = [Simulation(env) for env in envs]
        self.messages: dict[tuple[str, int], Any] = {}
        """Answers that do not fit into the memory, by kind of call and row."""
        self._records: Any = None

    def replace(self, row: int, env: gymnasium.Env[Any, Any]) -> None:
        """Take another environment in the place of one that failed."""
        with contextlib.suppress(Exception, SystemExit):
            self.envs[row].close()
        self.envs[row], self._simulations[row] = env, Simulation(env)

    def attach(self, memory: mmap.mmap, offset: int) -> None:
        """Use the records that begin there."""
        self._records = np.frombuffer(memory, record(*self.facts[:2]), len(self.envs), offset)
        self._answers = {kind: answers(self._records, kind) for kind in (STEP, RESET)}

    def step(self) -> None:
        """Take the step of every environment that it is wanted of. Where an episode ends, the next one begins."""
        wanted, actions, answer = self._records["wanted"], self._records["action"], self._answers[STEP]
        for row in np.flatnonzero(wanted).tolist():
            wanted[row] = False
            action = actions[row]
            result = self._call(row, self.envs[row].step, action.copy() if isinstance(action, np.ndarray) else action)
            fits = isinstance(result, tuple) and len(result) == 5 and self._fits(answer, row, result)
            self._simulations[row].write(answer, row, begins=False)
            answer.by_message[row] = not fits
            if not fits:
                self.messages[STEP, row] = without_info(result)
            elif (answer.terminated[row] or answer.truncated[row]) and self._records["seed"][row] >= 0:
                self.reset(row, int(self._records["seed"][row]))

    def reset(self, row: int, seed: int | None) -> None:
        """Begin an episode."""
        answer, result = self._answers[RESET], self._call(row, self.envs[row].reset, seed=seed)
        two = isinstance(result, tuple) and len(result) == 2
        fits = two and self._obs_fits(answer, row, result[0])
        self._simulations[row].write(answer, row, begins=True)
        answer.by_message[row] = not fits
        if not fits:
            self.messages[RESET, row] = (result[0], {}) if two else result

    def _call(self, row: int, function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        self._begin(row)
        try:
            return function(*arguments, **named)
        except BaseException as error:  # an environment may raise SystemExit, or a class of its own
            return Raised(describe_raised(error), traceback.format_exc())

    def _obs_fits(self, answer: Answers, row: int, obs: Any) -> bool:
        """Write an observation into the memory. Returns False if it would be another one there."""
        found = [find(obs, path) for path in self._paths]
        return bool(found) and all(writes(one, array, row) for one, array in zip(found, answer.obs, strict=True))

    def _fits(self, answer: Answers, row: int, result: Any) -> bool:
        """Write the result of a step into the memory. Returns False if it would be another one there."""
        obs, reward, terminated, truncated, info = result
        if type(terminated) not in FLAG or type(truncated) not in FLAG:
            return False
        if not isinstance(reward, PLAIN) or not np.isfinite(reward):
            return False
        told = [info.get(name) for name in OUTCOMES] if type(info) is dict else [None] * len(OUTCOMES)
        if any(one is not None and not isinstance(one, NUMBER) for one in told):
            return False
        answer.reward[row], answer.terminated[row], answer.truncated[row] = reward, terminated, truncated
        answer.outcomes[row] = [np.nan if one is None else float(one) for one in told]
        return self._obs_fits(answer, row, obs)


def without_info(result: Any) -> Any:
    """The result of a step with what the run reads of `info`, which may hold anything."""
    if not isinstance(result, tuple) or isinstance(result, Raised) or len(result) != 5:
        return result
    info = result[4]
    return (*result[:4], {key: info[key] for key in OUTCOMES if key in info} if isinstance(info, dict) else {})


def writes(value: Any, array: Array, row: int) -> bool:
    """Write a part of an observation into row `row` of an array. Returns False if that would change it."""
    if type(value) is not np.ndarray:
        if array.ndim > 1 or array.dtype != np.int64 or type(value) not in (int, np.int64):
            return False
    elif value.shape != array.shape[1:]:
        return False
    elif value.dtype != array.dtype and (value.dtype.kind != "f" or array.dtype not in FLOATS):
        return False  # a float of another size becomes the float32 here that it would become later
    array[row] = value
    return True


class Worker:
    """The environments of this process, and what the run asks of them."""

    def __init__(self, connection: Connection, memory: int) -> None:
        self._connection, self._memory = connection, memory
        self._places: dict[int, Place] = {}
        self._head: Any = None

    def serve(self) -> None:
        """Do what is asked until the run closes the connection."""
        self._connection.send("ready")
        with contextlib.suppress(EOFError, ConnectionError):
            while True:
                request = self._connection.recv_bytes()
                if len(request) == 1:
                    place = self._places[request[0]]
                    place.step()
                    self._finish(place)
                else:
                    self._answer(*self._connection.recv())

    def _finish(self, place: Place) -> None:
        """Say that an answer stands in the memory, but for what comes with this message."""
        told, place.messages = place.messages, {}
        if not told:
            self._connection.send_bytes(b"")
            return
        self._connection.send_bytes(b"message")
        try:
            self._connection.send(told)
        except Exception as error:  # what cannot be sent is no array either
            self._connection.send({key: Raised(f"{describe_raised(error)} (in a worker process)", "") for key in told})

    def _answer(self, what: str, *arguments: Any) -> None:
        if what == "reset":
            key, row, seed = arguments
            self._places[key].reset(row, seed)
            self._finish(self._places[key])
            return
        try:
            answer = getattr(self, what)(*arguments)
        except EstepError as error:
            answer = type(error).__name__, error.what, error.fix
        self._connection.send(answer)

    def make(self, key: int, source: str, by_id: bool, rows: int) -> Any:
        """Make the environments of a place. Returns their spaces, time limit and name."""
        self._places[key] = Place(self._made(source, by_id, rows), self._begin)
        return self._places[key].facts

    def remake(self, key: int, row: int, source: str, by_id: bool) -> Any:
        """Make one environment anew. Returns its spaces."""
        (fresh,) = self._made(source, by_id, 1)
        self._places[key].replace(row, fresh)
        return fresh.observation_space, fresh.action_space

    def attach(self, key: int, offset: int, size: int) -> None:
        """Use the memory of a place."""
        memory = mmap.mmap(self._memory, size)
        self._head = np.frombuffer(memory, HEAD, 1)
        self._places[key].attach(memory, offset)

    def close(self) -> None:
        """Close all environments."""
        for env in (env for place in self._places.values() for env in place.envs):
            with contextlib.suppress(Exception, SystemExit):
                env.close()

    @staticmethod
    def _made(source: str, by_id: bool, rows: int) -> list[gymnasium.Env[Any, Any]]:
        return build(source if by_id else references.resolve(source), rows)

    def _begin(self, row: int) -> None:
        """Count a call of an environment, so that the run sees that one does not end."""
        self._head["call"][0] += 1
        self._head["row"][0] = row


def end_with(parent: int) -> None:
    """End this process when the run's process has ended, whatever an environment does then."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(DIE_WITH_PARENT, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(0)


def main(parent: int, connection: int, memory: int) -> None:
    """Serve the process with this number, by a connection and shared memory with these file numbers."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # a scheduler signals every process; this one ends with the run
    end_with(parent)
    Worker(Connection(connection), memory).serve()
