"""Replay on the host: each observation is stored once, and steps are drawn exactly uniformly."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from estep.core.types import Transition
from estep.data.layout import sizes
from estep.errors import RejectedInput, UsageError

CHUNK = 16_384
"""Rows in one chunk of a checkpoint."""
NO_STEP = -1.0
"""In the column `last`: the row holds only an episode's final observation."""
Floats: TypeAlias = npt.NDArray[np.float32]
Flags: TypeAlias = npt.NDArray[np.bool_]
Rows: TypeAlias = npt.NDArray[np.int64]
"""Where steps are stored, until they are overwritten."""


def philox(seed: int, counter: int) -> np.random.Generator:
    """A generator that is a function of two numbers, each taken mod 2^64."""
    key = np.array([seed % 2**64, counter % 2**64], np.uint64)
    return np.random.Generator(np.random.Philox(key=key))


class Replay:
    """A ring of rows for each of E environments, interleaved: row r of environment e is row r E + e of the arrays.

    A step's successor is the observation in the next row of its environment, so an episode of n steps takes n + 1
    rows, the last of which is no step. A second ring per environment lists the rows of its steps, oldest first; a
    step leaves the list before its row is overwritten. A draw is uniform over the lists.
    """

    def __init__(
        self, capacity: int, num_envs: int, observation: int, action: int, memo: Mapping[str, int] | None = None
    ) -> None:
        """capacity in steps over all environments; memo names further float32 columns and gives their widths."""
        self._memo = dict(memo or {})
        self._size = size = sizes(capacity, num_envs, observation, action, self._memo)
        self._action = action
        self.num_envs = num_envs
        rows = size.laps * num_envs
        self._obs = np.zeros((rows, observation), np.float32)
        self._columns = np.zeros((rows, size.columns), np.float32)
        self._steps = np.zeros((num_envs, size.share), np.int64)
        # The following are positions that only grow; a position mod laps is a row, mod share an entry of the list.
        self._head = [0] * num_envs  # the row to write next, or that of the pending observation
        self._open = [False] * num_envs  # whether the row at the head holds the successor of the newest step
        self._first = [0] * num_envs  # the oldest entry of the list
        self._end = [0] * num_envs  # one after its newest
        self.dirty: set[int] = set()
        """Chunks changed since they were last cleaned."""

    def __len__(self) -> int:
        """Steps that can be drawn."""
        return sum(self._end) - sum(self._first)

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays."""
        return self._obs.nbytes + self._columns.nbytes + self._steps.nbytes

    def add(
        self,
        obs: Floats,
        action: Floats,
        reward: Floats,
        terminated: Flags,
        truncated: Flags,
        next_obs: Floats,
        valid: Flags,
        memo: Mapping[str, Floats] | None = None,
    ) -> None:
        """Store one step of each environment: obs and next_obs [E, o], action [E, a], memo [E, width], others [E].

        next_obs is the true successor. An environment with valid False stores nothing, and its episode is cut.
        """
        if obs.shape != (self.num_envs, self._size.observation) or next_obs.shape != obs.shape:
            raise ValueError(f"observations have shapes {obs.shape} and {next_obs.shape}")
        a = self._action
        for env in range(self.num_envs):
            if not valid[env]:
                self.cut(env)
                continue
            row, after = self._claim(env)
            ends = bool(terminated[env] or truncated[env])
            self._obs[row] = obs[env]
            self._obs[after] = next_obs[env]
            columns = self._columns[row]
            columns[:a] = action[env]
            columns[a] = reward[env]
            columns[a + 1] = 0.0 if terminated[env] else 1.0
            columns[a + 2] = 1.0 if ends else 0.0
            at = a + 3
            for name, width in self._memo.items():
                columns[at : at + width] = memo[name][env] if memo else math.nan
                at += width
            self._open[env] = True
            if ends:
                self._close(env)

    def cut(self, env: int) -> None:
        """End the open episode of an environment as truncated at its last stored step; without one do nothing."""
        if self._open[env]:
            row = self._row(env, self._head[env] - 1)
            self._columns[row, self._action + 2] = 1.0
            self.dirty.add(row // CHUNK)
            self._close(env)

    def sample(self, seed: int, counter: int, shape: tuple[int, ...]) -> Transition:
        """Draw steps uniformly with replacement: a record of fresh arrays [*shape, ...]. Raises as `draw`."""
        return self.read(self.draw(seed, counter, shape))

    def draw(self, seed: int, counter: int, shape: tuple[int, ...], length: int = 0) -> Rows:
        """Rows [*shape] of steps, or with a length, [*shape, length] of as many steps of one environment in a row.

        Uniform with replacement over steps, or over the places where so many steps start. They may run over the end of
        an episode, where `last` is 1. What is drawn is a function of seed and counter (each taken mod 2^64) and of
        what is stored; there is no generator to save. Raises UsageError when nothing, or too little, is stored.
        """
        span = max(length, 1)
        ends = np.cumsum([max(0, end - first - span + 1) for end, first in zip(self._end, self._first, strict=True)])
        if not ends[-1]:
            raise UsageError("Replay holds too few steps.", "Take more of them before the first update.")
        drawn = philox(seed, counter).integers(ends[-1], size=math.prod(shape))
        env = np.searchsorted(ends, drawn, side="right")
        starts = np.array(self._first) - np.concatenate([[0], ends[:-1]])
        entries, share = drawn + starts[env], self._size.share
        if length:
            shape, env = (*shape, length), env[:, None]
            entries = entries[:, None] + np.arange(length)
        rows: Rows = self._steps.reshape(-1).take(env * share + entries % share).reshape(shape)
        return rows

    def newest(self, count: int, length: int) -> Rows:
        """Rows [n, length]: of each environment's newest `count` steps all whole runs of `length`, the newest last."""
        kept = [min(count, end - first) for end, first in zip(self._end, self._first, strict=True)]
        runs = [steps // length * length for steps in kept]
        share = self._size.share
        entries = [np.arange(end - run, end) % share for end, run in zip(self._end, runs, strict=True)]
        found = [steps[entry] for steps, entry in zip(self._steps, entries, strict=True)]
        return np.concatenate(found).reshape(-1, length)

    def read(self, rows: Rows) -> Transition:
        """Copies of the steps in these rows."""
        return self._gather(rows.reshape(-1), rows.shape)

    def write(self, rows: Rows, memo: Mapping[str, Floats]) -> None:
        """Change what is remembered with the steps in these rows: [*rows.shape, width] by name. Of a row that is there
        twice, the last is kept."""
        flat, at = rows.reshape(-1), self._action + 3
        for name, width in self._memo.items():
            self._columns[flat, at : at + width] = memo[name].reshape(-1, width)
            at += width
        self.dirty.update(np.unique(flat // CHUNK).tolist())

    def latest(self, n: int) -> Floats:
        """Observations [min(n, len), o] of the most recent steps, oldest first, evenly over environments."""
        counts = [end - first for end, first in zip(self._end, self._first, strict=True)]
        depth, env = np.indices((min(n, max(counts)), self.num_envs)).reshape(2, -1)
        kept = depth < np.array(counts)[env]
        depth, env = depth[kept][:n][::-1], env[kept][:n][::-1]
        entries = (np.array(self._end)[env] - 1 - depth) % self._size.share
        return self._obs[self._steps[env, entries]]

    @property
    def chunks(self) -> int:
        """Chunks that hold data: those numbered from 0 up."""
        return -(-self._used() // CHUNK)

    def clean(self, ids: set[int]) -> None:
        """Note that these chunks were saved."""
        self.dirty -= ids

    def chunk(self, i: int) -> dict[str, npt.NDArray[Any]]:
        """A copy of the rows of chunk i."""
        rows = slice(i * CHUNK, (i + 1) * CHUNK)
        return {"obs": self._obs[rows].copy(), "columns": self._columns[rows].copy()}

    def load_chunk(self, i: int, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Take up a saved chunk. Raises RejectedInput for wrong shapes or types and for numbers that are not finite."""
        rows = slice(i * CHUNK, (i + 1) * CHUNK)
        for name, target in (("obs", self._obs[rows]), ("columns", self._columns[rows])):
            saved = arrays.get(name)
            if i < 0 or saved is None or saved.shape != target.shape or saved.dtype != np.float32 or not len(target):
                raise _malformed(f"chunk {i} does not fit")
            if not np.isfinite(saved).all():
                raise _malformed(f"chunk {i} holds numbers that are not finite")
            target[...] = saved
        self.dirty.discard(i)

    def counters(self) -> dict[str, list[int]]:
        """What the rows do not tell."""
        return {
            "head": list(self._head),
            "open": [int(flag) for flag in self._open],
            "tail": [self._tail(env) for env in range(self.num_envs)],
        }

    def load_counters(self, counters: Mapping[str, Any]) -> None:
        """Take up saved counters, after every chunk. The lists of steps are rebuilt from the rows.

        Raises RejectedInput when they are malformed.
        """
        try:
            saved = [[int(n) for n in counters[key]] for key in ("head", "open", "tail")]
            per_env = list(zip(range(self.num_envs), *saved, strict=True))
        except (KeyError, TypeError, ValueError) as error:
            raise _malformed("its counters cannot be read") from error
        for env, head, is_open, tail in per_env:
            if not (0 <= tail <= head <= tail + self._size.laps and is_open in (0, 1)):
                raise _malformed(f"the counters of environment {env} contradict each other")
            rows = np.arange(tail, head) % self._size.laps * self.num_envs + env
            rows = rows[self._columns[rows, self._action + 2] != NO_STEP]
            if len(rows) > self._size.share or (is_open and not len(rows)):
                raise _malformed(f"the rows of environment {env} do not match its counters")
            self._head[env], self._open[env] = head, bool(is_open)
            self._first[env], self._end[env] = 0, len(rows)
            self._steps[env, : len(rows)] = rows

    def _row(self, env: int, position: int) -> int:
        """The row of the arrays for a position in an environment's ring."""
        return position % self._size.laps * self.num_envs + env

    def _tail(self, env: int) -> int:
        """Position of the oldest step, or the head when there is none."""
        first, head = self._first[env], self._head[env]
        if first == self._end[env]:
            return head
        lap = int(self._steps[env, first % self._size.share]) // self.num_envs
        return head - 1 - (head - 1 - lap) % self._size.laps

    def _claim(self, env: int) -> tuple[int, int]:
        """Take the rows of a new step and its successor, dropping the steps whose rows these are: (row, after)."""
        size, head, entries = self._size, self._head[env], self._steps[env]
        row, after = self._row(env, head), self._row(env, head + 1)
        if self._end[env] - self._first[env] == size.share:
            self._first[env] += 1
        # Rows are claimed in turn and a step's own row before its successor's, so only the oldest can be in the way.
        while self._first[env] < self._end[env] and entries[self._first[env] % size.share] in (row, after):
            self._first[env] += 1
        entries[self._end[env] % size.share] = row
        self._end[env] += 1
        self._head[env] = head + 1
        self.dirty.add(row // CHUNK)
        self.dirty.add(after // CHUNK)
        return row, after

    def _close(self, env: int) -> None:
        """Leave the row at the head, which holds an episode's final observation, behind."""
        row = self._row(env, self._head[env])
        self._columns[row] = 0.0
        self._columns[row, self._action + 2] = NO_STEP
        self.dirty.add(row // CHUNK)
        self._head[env] += 1
        self._open[env] = False

    def _gather(self, rows: Rows, shape: tuple[int, ...]) -> Transition:
        """Copy steps out."""
        after = rows + self.num_envs
        after[after >= len(self._obs)] -= len(self._obs)
        # take is three times faster than indexing here, and refuses a row that is out of bounds.
        columns: Any = self._columns.take(rows, axis=0)
        obs: Any = self._obs.take(rows, axis=0)
        next_obs: Any = self._obs.take(after, axis=0)
        o, a = self._size.observation, self._action
        memo, at = {}, a + 3
        for name, width in self._memo.items():
            memo[name] = columns[:, at : at + width].reshape(*shape, width)
            at += width
        return Transition(
            obs=obs.reshape(*shape, o),
            action=columns[:, :a].reshape(*shape, a),
            reward=columns[:, a].reshape(shape),
            discount=columns[:, a + 1].reshape(shape),
            next_obs=next_obs.reshape(*shape, o),
            last=columns[:, a + 2].reshape(shape),
            memo=memo or (),
        )

    def _used(self) -> int:
        """Rows of the arrays that were ever written: a prefix, because environments are interleaved."""
        positions = max(head + is_open for head, is_open in zip(self._head, self._open, strict=True))
        return min(positions, self._size.laps) * self.num_envs


def _malformed(why: str) -> RejectedInput:
    return RejectedInput(f"The saved replay is malformed: {why}.", "Resume from an earlier checkpoint of this run.")
