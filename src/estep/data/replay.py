"""Replay on the host. Each observation is stored once, and steps are sampled exactly uniformly."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from estep.core.types import Floats, Transition, to_index
from estep.data.layout import Row, as_transition, checked_chunk, malformed, sizes
from estep.data.sampling import philox, pick
from estep.errors import UsageError

CHUNK = 16_384
"""Rows in one chunk of a checkpoint."""
NO_STEP = -1.0
"""Value of the column `last` in a row that holds only an episode's final observation."""
Flags: TypeAlias = npt.NDArray[np.bool_]
Rows: TypeAlias = npt.NDArray[np.int64]
"""Row numbers of stored steps. A row is valid until it is overwritten."""


class Replay:
    """A ring buffer of rows for each of E environments: row r of environment e is row r E + e of the arrays.

    The next observation of a step is in the next row of its environment. So an episode of n steps takes n + 1 rows,
    and the last of them is not a step. A second ring buffer per environment lists the rows of its steps, oldest
    first. A step is removed from the list before its row is overwritten. Sampling is uniform over the lists.
    """

    def __init__(self, capacity: int, num_envs: int, row: Row) -> None:
        """Allocate the arrays.

        Args:
            capacity: steps over all environments.
            num_envs: how many environments, E.
            row: what is stored of a step.

        Raises:
            UsageError: the capacity is smaller than the number of environments.
        """
        self._memo, self._factors, self.num_envs = dict(row.memo), row.factors, num_envs
        self._size = size = sizes(capacity, num_envs, row)
        self._action = size.action
        rows = size.rows_per_env * num_envs
        self._obs = np.zeros((rows, row.observation), row.dtype)
        self._columns = np.zeros((rows, size.columns), np.float32)
        self._steps = np.zeros((num_envs, size.steps_per_env), np.int64)
        # Positions only grow. The row is head mod rows_per_env, the entry of the list is first mod steps_per_env.
        self._head = [0] * num_envs  # the row to write next
        self._open = [False] * num_envs  # whether the row at the head holds the next observation of the newest step
        self._first = [0] * num_envs  # the oldest entry of the list
        self._end = [0] * num_envs  # the entry after the newest
        self.dirty: set[int] = set()
        """Chunks that changed since they were last saved."""

    def __len__(self) -> int:
        """Number of steps that can be sampled."""
        return sum(self._end) - sum(self._first)

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays."""
        return sum(array.nbytes for array in (self._obs, self._columns, self._steps))

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
        """Store one step of each environment.

        Args:
            obs, next_obs: [E, o]; next_obs is the episode's final observation where the episode ends.
            action, memo: the points u [E, a], and further columns [E, width] by name.
            reward, terminated, truncated: [E].
            valid: [E]; where it is False nothing is stored, and the episode ends as truncated.
        """
        if obs.shape != (self.num_envs, self._size.observation) or next_obs.shape != obs.shape:
            raise ValueError(f"observations have shapes {obs.shape} and {next_obs.shape}")
        a, stored = self._action, to_index(action, self._factors) if self._factors else action
        for env in range(self.num_envs):
            if not valid[env]:
                self.cut(env)
                continue
            row, after = self._claim(env)
            ends = bool(terminated[env] or truncated[env])
            self._obs[row] = obs[env]
            self._obs[after] = next_obs[env]
            columns = self._columns[row]
            columns[:a] = stored[env]
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
        """End the unfinished episode of an environment as truncated at its last stored step, if there is one."""
        if self._open[env]:
            row = self._row(env, self._head[env] - 1)
            self._columns[row, self._action + 2] = 1.0
            self.dirty.add(row // CHUNK)
            self._close(env)

    def drop(self, rows: Rows) -> None:
        """Take steps out. The step before each ends its episode as truncated, and the step after begins one."""
        for row in np.unique(rows).tolist():
            env, size = row % self.num_envs, self._size.steps_per_env
            entries = np.arange(self._first[env], self._end[env]) % size
            steps = self._steps[env, entries]
            number = int(np.argmax(np.append(steps, row) == row))
            if number == len(steps):  # it was overwritten
                continue
            if number == len(steps) - 1:
                self.cut(env)
            if number and self._columns[steps[number - 1], self._action + 2] == 0:
                self._columns[steps[number - 1], self._action + 2] = 1.0
                self.dirty.add(int(steps[number - 1]) // CHUNK)
            self._empty(row)
            self._steps[env, entries[:-1]] = np.delete(steps, number)
            self._end[env] -= 1

    def sample(self, seed: int, counter: int, shape: tuple[int, ...]) -> Transition:
        """Sample steps uniformly with replacement: new arrays [*shape, ...]. See `draw`."""
        return self.read(self.draw(seed, counter, shape))

    def draw(self, seed: int, counter: int, shape: tuple[int, ...], length: int = 0, strata: int = 1) -> Rows:
        """Sample the rows of steps, or of sequences of steps, uniformly with replacement.

        Args:
            seed, counter: of the random numbers, each taken mod 2^64; there is no generator that has to be saved.
            shape: shape of the result.
            length: steps in a sequence, which may contain the end of an episode; 0 samples single steps.
            strata: parts of the environments, of equally many each, in order. Along the last axis of `shape` they take
                turns, so that each is sampled equally often, and uniformly within.

        Returns:
            Rows [*shape] or [*shape, length]. Raises UsageError if a part has too few steps for one sequence.
        """
        counts, steps_per_env = self.sequences(length, strata), self._size.steps_per_env
        if not counts.any(1).all():
            raise UsageError("Replay holds too few steps for a batch.", "Take more steps before the first update.")
        env, number = pick(counts, philox(seed, counter), math.prod(shape), shape[-1])
        entries = np.array(self._first)[env] + number
        if length:
            shape, env = (*shape, length), env[:, None]
            entries = entries[:, None] + np.arange(length)
        rows: Rows = self._steps.reshape(-1).take(env * steps_per_env + entries % steps_per_env).reshape(shape)
        return rows

    def sequences(self, length: int, strata: int = 1) -> npt.NDArray[np.int64]:
        """How many sequences of this length can be sampled in each environment [strata, E / strata]."""
        span = max(length, 1)
        counts = [max(0, end - first - span + 1) for end, first in zip(self._end, self._first, strict=True)]
        return np.array(counts).reshape(strata, -1)

    def newest(self, count: int, length: int, strata: int = 1) -> Rows:
        """The newest `count` steps of each environment as whole sequences: rows [n, length], oldest first. With several
        strata, as `draw` has them, these take turns, and each has as many sequences as the one with the fewest."""
        runs = [min(count, end - first) // length * length for end, first in zip(self._end, self._first, strict=True)]
        steps_per_env = self._size.steps_per_env
        entries = [np.arange(end - run, end) % steps_per_env for end, run in zip(self._end, runs, strict=True)]
        rows = [steps[entry].reshape(-1, length) for steps, entry in zip(self._steps, entries, strict=True)]
        each = self.num_envs // strata
        parts = [np.concatenate(rows[i : i + each]) for i in range(0, self.num_envs, each)]
        fewest = min(map(len, parts))
        return np.stack([part[-fewest or len(part) :] for part in parts], 1).reshape(-1, length)

    def read(self, rows: Rows) -> Transition:
        """Copies of the steps in these rows."""
        flat = rows.reshape(-1)
        after = flat + self.num_envs
        after[after >= len(self._obs)] -= len(self._obs)
        # take is three times faster than indexing here, and it raises for a row that is out of bounds.
        columns: Any = self._columns.take(flat, axis=0)
        obs, next_obs = [self._obs.take(at, axis=0).astype(np.float32, copy=False) for at in (flat, after)]
        return as_transition(columns, (obs, next_obs), (self._factors, self._memo), rows.shape)

    def write(self, rows: Rows, memo: Mapping[str, Floats]) -> None:
        """Replace the memo of these steps, [*rows.shape, width] by name. If a row occurs twice, the last one counts."""
        flat, at = rows.reshape(-1), self._action + 3
        for name, width in self._memo.items():
            self._columns[flat, at : at + width] = memo[name].reshape(-1, width)
            at += width
        self.dirty.update(np.unique(flat // CHUNK).tolist())

    def latest(self, n: int) -> Floats:
        """Observations [min(n, len), o] of the most recent steps, oldest first, equally many of each environment."""
        counts = [end - first for end, first in zip(self._end, self._first, strict=True)]
        depth, env = np.indices((min(n, max(counts)), self.num_envs)).reshape(2, -1)
        depth, env = (axis[depth < np.array(counts)[env]][:n][::-1] for axis in (depth, env))
        entries = (np.array(self._end)[env] - 1 - depth) % self._size.steps_per_env
        return self._obs[self._steps[env, entries]].astype(np.float32, copy=False)

    @property
    def chunks(self) -> int:
        """Number of chunks that hold data. They are numbered from 0."""
        return -(-self._used() // CHUNK)

    def clean(self, ids: set[int]) -> None:
        """Mark these chunks as saved."""
        self.dirty -= ids

    def chunk(self, i: int) -> dict[str, npt.NDArray[Any]]:
        """A copy of the rows of chunk i."""
        rows = slice(i * CHUNK, (i + 1) * CHUNK)
        return {"obs": self._obs[rows].copy(), "columns": self._columns[rows].copy()}

    def load_chunk(self, i: int, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Load a saved chunk. Raises RejectedInput if a shape or type is wrong or a number is not finite."""
        rows = slice(i * CHUNK, (i + 1) * CHUNK)
        targets = {"obs": self._obs[rows], "columns": self._columns[rows]} if i >= 0 else {}
        for name, saved in checked_chunk(i, arrays, targets, self._factors).items():
            targets[name][...] = saved
        self.dirty.discard(i)

    def counters(self) -> dict[str, list[int]]:
        """The state that is not in the rows: positions, and whether an episode is unfinished."""
        return {
            "head": list(self._head),
            "open": [int(flag) for flag in self._open],
            "tail": [self._tail(env) for env in range(self.num_envs)],
        }

    def load_counters(self, counters: Mapping[str, Any]) -> None:
        """Load saved counters, after every chunk, and rebuild the lists. Raises RejectedInput if they are malformed."""
        try:
            saved = [[int(n) for n in counters[key]] for key in ("head", "open", "tail")]
            per_env = list(zip(range(self.num_envs), *saved, strict=True))
        except (KeyError, TypeError, ValueError) as error:
            raise malformed("its counters cannot be read") from error
        for env, head, is_open, tail in per_env:
            if not (0 <= tail <= head <= tail + self._size.rows_per_env and is_open in (0, 1)):
                raise malformed(f"the counters of environment {env} contradict each other")
            rows = np.arange(tail, head) % self._size.rows_per_env * self.num_envs + env
            rows = rows[self._columns[rows, self._action + 2] != NO_STEP]
            if len(rows) > self._size.steps_per_env or (is_open and not len(rows)):
                raise malformed(f"the rows of environment {env} do not match its counters")
            self._head[env], self._open[env] = head, bool(is_open)
            self._first[env], self._end[env] = 0, len(rows)
            self._steps[env, : len(rows)] = rows

    def _row(self, env: int, position: int) -> int:
        """The row of the arrays for a position in an environment's ring buffer."""
        return position % self._size.rows_per_env * self.num_envs + env

    def _tail(self, env: int) -> int:
        """Position of the oldest step; the head if there is no step."""
        first, head = self._first[env], self._head[env]
        if first == self._end[env]:
            return head
        lap = int(self._steps[env, first % self._size.steps_per_env]) // self.num_envs
        return head - 1 - (head - 1 - lap) % self._size.rows_per_env

    def _claim(self, env: int) -> tuple[int, int]:
        """Reserve the rows of a new step and of its next observation, and remove the old steps in these rows."""
        size, head, entries = self._size, self._head[env], self._steps[env]
        row, after = self._row(env, head), self._row(env, head + 1)
        if self._end[env] - self._first[env] == size.steps_per_env:
            self._first[env] += 1
        # Rows are reserved in order, so only the oldest steps can be in these rows.
        while self._first[env] < self._end[env] and entries[self._first[env] % size.steps_per_env] in (row, after):
            self._first[env] += 1
        entries[self._end[env] % size.steps_per_env] = row
        self._end[env] += 1
        self._head[env] = head + 1
        self.dirty.update((row // CHUNK, after // CHUNK))
        return row, after

    def _close(self, env: int) -> None:
        """Mark the row at the head as an episode's final observation and move the head on."""
        self._empty(self._row(env, self._head[env]))
        self._head[env] += 1
        self._open[env] = False

    def _empty(self, row: int) -> None:
        """Mark a row as no step. Its observation stays, which may be that after the step before."""
        self._columns[row] = 0.0
        self._columns[row, self._action + 2] = NO_STEP
        self.dirty.add(row // CHUNK)

    def _used(self) -> int:
        """Number of rows that were ever written. They are the first rows, because environments are interleaved."""
        positions = max(head + is_open for head, is_open in zip(self._head, self._open, strict=True))
        return min(positions, self._size.rows_per_env) * self.num_envs
