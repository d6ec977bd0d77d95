"""Converts a population to a checkpoint and back. The replay of each seed has the layout of an ordinary run."""

from __future__ import annotations

import functools as ft
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from estep.data.layout import Row, checked_chunk, malformed, sizes
from estep.data.replay import CHUNK, NO_STEP
from estep.errors import EstepError, RejectedInput
from estep.policy.spaces import Spaces, check_spaces
from estep.population import moments, ring
from estep.population.moments import Running
from estep.population.ring import Layout, Ring
from estep.population.state import Learner, stacked
from estep.population.trainer import PopulationTrainer
from estep.runs import checkpoint, manifest
from estep.runs.leaves import expected, leaf_name, named_leaves, rebuild
from estep.training.snapshot import lacking, recorded_spaces

Arrays = dict[str, "np.ndarray[Any, Any]"]
BEST = "best_"
"""Beginning of the files that hold the best agent of each seed."""
POLICY_FILES = ("params", "optim", "stats")


class Rings:
    """The replays of all seeds as one store of a checkpoint. Chunk i of seed s has the number i S + s."""

    def __init__(self, form: Layout, rings: Ring) -> None:
        self.form, self.rings = form, rings
        self.count = rings.head.shape[0]
        self._saved: np.ndarray[Any, Any] | None = None

    @property
    def chunks(self) -> int:
        """Chunks of all seeds that hold data."""
        ends = self.rings.head + self.rings.open.astype(jnp.int32)
        used = min(int(ends.max()), self.form.size.rows_per_env) * self.form.num_envs
        return -(-used // CHUNK) * self.count

    @property
    def dirty(self) -> set[int]:
        """Chunks that changed since they were last saved. With a memo these are all of them."""
        numbers = set(range(self.chunks))
        if self._saved is None or self.form.memo:
            return numbers
        changed: set[int] = set()
        envs, rows = self.form.num_envs, self.form.size.rows_per_env
        for s, (old, new) in enumerate(zip(self._saved, np.asarray(self.rings.head), strict=True)):
            place = np.unique(np.arange(old.min() - 1, new.max() + 2) % rows) * envs
            chunks = np.unique(np.concatenate([place // CHUNK, (place + envs - 1) // CHUNK]))
            changed |= {int(i) * self.count + s for i in chunks}
        return changed & numbers

    def clean(self, numbers: set[int], /) -> None:
        """Remember that everything is saved. `numbers` are all chunks."""
        self._saved = np.array(self.rings.head)

    def forget(self) -> None:
        """Take every chunk for changed, because steps were taken out."""
        self._saved = None

    def chunk(self, number: int, /) -> Arrays:
        """The arrays of one chunk."""
        i, s = divmod(number, self.count)
        rows = slice(i * CHUNK, (i + 1) * CHUNK)
        return {name: np.asarray(getattr(self.rings, name)[s, rows]) for name in ("obs", "columns")}

    def load_chunk(self, number: int, arrays: Arrays, /) -> None:
        """Load the arrays of one chunk. Raises RejectedInput if a shape or type is wrong or a number is not finite."""
        i, s = divmod(number, self.count)
        held = {"obs": self.rings.obs, "columns": self.rings.columns}
        count = max(0, min(CHUNK, self.form.rows - i * CHUNK))
        targets = {name: np.empty((count, one.shape[2]), one.dtype) for name, one in held.items()}
        sound = checked_chunk(i, arrays, targets, self.form.factors)
        place = jnp.int32(s), jnp.int32(i * CHUNK), jnp.int32(0)
        changed = {name: _put(one, jnp.asarray(sound[name])[None], place) for name, one in held.items()}
        self.rings = self.rings._replace(**changed)

    def counters(self) -> dict[str, Any]:
        """The counters of each seed, as those of an ordinary replay."""
        small = jax.device_get({name: getattr(self.rings, name) for name in ("steps", "head", "first", "end", "open")})
        rows = [ring.counters(self.form, {name: array[s] for name, array in small.items()}) for s in range(self.count)]
        return {name: [row[name] for row in rows] for name in rows[0]}

    def load_counters(self, counters: Mapping[str, Any], /) -> None:
        """Load the counters, after all chunks, and rebuild the lists of steps. Raises RejectedInput."""
        try:
            per_seed = [{name: counters[name][s] for name in ("head", "open", "tail")} for s in range(self.count)]
        except (KeyError, TypeError, IndexError) as error:
            raise malformed("its counters cannot be read") from error
        last = self.form.size.action + 2
        lists = [steps_of(self.form, row, np.asarray(self.rings.columns[s, :, last])) for s, row in enumerate(per_seed)]
        kinds = {"steps": np.int32, "head": np.int32, "end": np.int32, "open": np.bool_}
        new = {name: jnp.asarray(np.stack([each[name] for each in lists]), kind) for name, kind in kinds.items()}
        self.rings = self.rings._replace(**new, first=jnp.zeros_like(new["end"]))


def _place(s: int, held: Any, leaf: Any) -> Any:
    """The arrays of all seeds with that of seed s replaced."""
    return held.at[s].set(jnp.asarray(leaf, held.dtype))


@ft.partial(jax.jit, donate_argnums=0)
def _put(held: Any, block: Any, place: tuple[Any, Any, Any]) -> Any:
    return jax.lax.dynamic_update_slice(held, block, place)


def steps_of(form: Layout, counters: Mapping[str, Any], last: np.ndarray[Any, Any]) -> Arrays:
    """The lists of steps and the positions of one seed.

    Args:
        form: the layout.
        counters: head, open and tail of each environment.
        last: the column `last` of all rows.

    Raises:
        RejectedInput: the counters do not fit the rows.
    """
    envs, size = form.num_envs, form.size
    try:
        saved = {name: np.array([int(n) for n in counters[name]], np.int64) for name in ("head", "open", "tail")}
        if any(len(numbers) != envs for numbers in saved.values()):
            raise ValueError("the number of environments")
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise malformed("its counters cannot be read") from error
    steps, end = np.zeros((envs, size.steps_per_env), np.int32), np.zeros(envs, np.int32)
    for env, (head, is_open, tail) in enumerate(zip(*saved.values(), strict=True)):
        if not (0 <= tail <= head <= tail + size.rows_per_env and head < 2**31 and is_open in (0, 1)):
            raise malformed(f"the counters of environment {env} contradict each other")
        rows = np.arange(tail, head) % size.rows_per_env * envs + env
        rows = rows[last[rows] != NO_STEP]
        if len(rows) > size.steps_per_env or (is_open and not len(rows)):
            raise malformed(f"the rows of environment {env} do not match its counters")
        steps[env, : len(rows)], end[env] = rows, len(rows)
    return {"steps": steps, "head": saved["head"], "end": end, "open": saved["open"]}


def moved(old: Layout, new: Layout, rings: Ring) -> Ring:
    """The replays of all seeds in a layout with at least as many rows, seed by seed."""
    empty = ring.empty(new)
    target = jax.tree.map(lambda leaf: jnp.zeros((rings.head.shape[0], *leaf.shape), leaf.dtype), empty)
    for s in range(rings.head.shape[0]):
        one = jax.device_get(jax.tree.map(lambda leaf: leaf[s], rings))
        arrays = moved_arrays(old, new.rows, ring.counters(old, one._asdict()), (one.obs, one.columns))
        rebuilt = steps_of(new, arrays[1], arrays[0][1][:, new.size.action + 2])
        first, end = 0 * rebuilt["end"], rebuilt["end"]
        parts: Any = (*arrays[0], rebuilt["steps"], rebuilt["head"], first, end, one.open)
        target = jax.tree.map(ft.partial(_place, s), target, Ring(*parts))
    found: Ring = target
    return found


def moved_arrays(
    old: Layout, rows: int, counters: Mapping[str, list[int]], arrays: tuple[Any, ...]
) -> tuple[tuple[np.ndarray[Any, Any], ...], dict[str, list[int]]]:
    """The rows of one seed from the first row on, in arrays of another length, and the counters that fit.

    Args:
        old: the layout of the arrays.
        rows: rows of the new arrays.
        counters: head, open and tail of each environment.
        arrays: [rows, ...].
    """
    envs, heads = old.num_envs, []
    targets = tuple(np.zeros((rows, *array.shape[1:]), array.dtype) for array in arrays)
    for env, (head, is_open, tail) in enumerate(zip(*(counters[n] for n in ("head", "open", "tail")), strict=True)):
        position = np.arange(tail, head + is_open)
        there = (position - tail) * envs + env
        for target, array in zip(targets, arrays, strict=True):
            target[there] = array[position % old.size.rows_per_env * envs + env]
        heads.append(head - tail)
    return targets, {"head": heads, "open": list(counters["open"]), "tail": [0] * envs}


def policy_arrays(learners: Learner) -> dict[str, Arrays]:
    """The arrays of every seed's policy, stacked, by file and name."""
    leaves = jax.device_get(named_leaves(learners.agent))
    files = {file: {name: np.asarray(leaf) for name, leaf in named.items()} for file, named in leaves.items()}
    if isinstance(learners.running, Running):
        files["stats"] = moments.arrays(jax.device_get(learners.running))
    return files


def _state(learners: Learner) -> dict[str, Any]:
    """What a seed has beside agent and replay, by name."""
    return {leaf_name(path): leaf for path, leaf in jax.tree_util.tree_flatten_with_path(_rest(learners))[0]}


def _rest(learners: Learner) -> Any:
    """The learners without agent and replay."""
    whole: Any = learners
    return whole._replace(agent=None, ring=None)


def tensors(trainer: PopulationTrainer) -> dict[str, Arrays]:
    """All arrays of a population except replay and the best agents, by file and name."""
    learners = trainer.engine.learners
    rest = {name: np.asarray(leaf) for name, leaf in jax.device_get(_state(learners)).items()}
    return {**policy_arrays(learners), "state": rest, "env": trainer.engine.tensors()}


def restore(trainer: PopulationTrainer, path: Path) -> tuple[checkpoint.Loaded, Rings]:
    """Load a checkpoint into a new trainer. Returns it, and its replays as a store.

    Raises:
        RejectedInput: the checkpoint is corrupt or belongs to another population.
    """
    count, learners, form = len(trainer.seeds), trainer.engine.learners, trainer.plan.form
    shape = stacked(trainer.shape, count)
    wanted = expected(shape) | {"state": {n: (leaf.shape, leaf.dtype) for n, leaf in _state(learners).items()}}
    saved = saved_form(path, form)
    rings = learners.ring if saved == form else _empty_rings(saved, count)
    store = Rings(saved, rings)
    loaded = checkpoint.load(path, wanted, store)
    rings = store.rings if saved == form else moved(saved, form, store.rings)
    try:
        held = jax.tree_util.tree_flatten_with_path(_rest(learners))
        arrays = [jnp.asarray(loaded.tensors["state"][leaf_name(where)]) for where, _ in held[0]]
        rest = jax.tree.unflatten(held[1], arrays)
        agent = rebuild(shape, loaded.tensors)
        trainer.engine.learners = rest._replace(agent=agent, ring=rings)
        trainer.env_steps, trainer.updates = (int(loaded.meta["counts"][name]) for name in ("env_steps", "updates"))
        before = loaded.meta.get("dropping", {})  # a checkpoint of before has none
        trainer.dropped, trainer.seen = (_counts(before, name, count) for name in ("dropped", "seen"))
        trainer.failed = {int(i): str(why["why"]) for i, why in loaded.meta["failed"].items()}
        trainer.engine.restore(loaded.tensors.get("env", {}), loaded.meta["engine"])
    except EstepError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
        raise lacking(path, error) from error
    return loaded, Rings(form, trainer.engine.learners.ring)


def _counts(table: Mapping[str, Any], name: str, count: int) -> list[int]:
    """A number of each seed; zeros if there is no such name."""
    found = [int(number) for number in table.get(name, [0] * count)]
    if len(found) != count:
        raise ValueError(f"{name} has {len(found)} numbers, not {count}")
    return found


def _empty_rings(form: Layout, count: int) -> Ring:
    one = jax.eval_shape(ft.partial(ring.empty, form))
    found: Ring = jax.tree.map(lambda leaf: jnp.zeros((count, *leaf.shape), leaf.dtype), one)
    return found


def saved_form(path: Path, form: Layout) -> Layout:
    """The layout of the replays of a checkpoint, which are smaller if the run was to take fewer steps."""
    try:
        capacity = int(manifest.read(path).meta["capacity"])
        row = Row(
            form.size.observation, form.factors, dict(form.memo), 0 if form.factors else form.size.action, form.dtype
        )
        return form._replace(size=sizes(capacity, form.num_envs, row))
    except (ValueError, KeyError, TypeError, OSError, EstepError) as error:
        raise RejectedInput(f"The checkpoint {path} was rejected: {error}.", "Use another checkpoint.") from error


def check_spaces_of(path: Path, now: Spaces) -> None:
    """Check that environments have the spaces that a checkpoint records.

    Raises:
        UsageError: they have other spaces.
        RejectedInput: the checkpoint does not say which.
    """
    before = recorded_spaces(path)
    if now.observation is not None:
        check_spaces(before, now.action, now.observation)
