"""`estep record`: a video of the policy of a run folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from estep.core.agent import Agent
from estep.envs.guard.watch import Watch
from estep.envs.tasks.sources import Given
from estep.errors import UsageError
from estep.policy import cache, policy
from estep.policy.environments import chosen_env
from estep.policy.job import RunContext, note_reason
from estep.policy.recorded import acting
from estep.policy.spaces import check_task
from estep.runs.folder import VIDEOS
from estep.video import backends, encoding
from estep.video.playing import Played, Settings, fps_of, frames, open_env


class Chosen(NamedTuple):
    """Which policy plays, and what becomes of its pictures."""

    checkpoint: str = "best"
    out: Path | None = None
    """The file; None takes one in the folder `videos` of the run, named after its checkpoint."""
    fps: float | None = None
    """None takes the frames a second of the environment."""
    env: Given | None = None
    allow_import: bool = False
    change: Callable[[Agent], Agent] | None = None
    """A function that changes the agent, such as its inference optimiser."""
    eval_with: str | None = None
    seed: int | None = None
    """None takes the seed of the run."""


class Recorded(NamedTuple):
    """A video that was written."""

    path: Path
    frames: int
    returns: list[float]
    lengths: list[int]
    env_steps: int
    backend: str | None
    size: int
    """Bytes."""


def record_run(
    run_dir: Path, chosen: Chosen, settings: Settings, context: RunContext, home: Path | None = None
) -> Recorded:
    """Record a checkpoint of a run.

    Args:
        run_dir: the run folder.
        chosen: the policy and the file.
        settings: what is played.
        context: takes notes, and is told when the environment hangs.
        home: the folder in whose `videos` the file goes; None takes the run folder.

    Raises:
        RejectedInput: not a run folder, or no such good checkpoint.
        UsageError: the environment must be given again or draws no pictures, or a library is missing.
        EnvironmentFailure: the environment raised or hung.
        StorageFailure: the disk fails.
    """
    suffix = encoding.kind() if chosen.out is None else chosen.out.suffix
    encoding.check_kind(suffix)
    backend = backends.use()
    note_reason(cache.use_cache(), context.report)
    trained = policy.load(run_dir, chosen.checkpoint, allow_import=chosen.allow_import)
    trained, planned = acting(trained, chosen.change, chosen.eval_with)
    source = _source(trained, chosen, settings.task)
    seed = trained.recipe.run.seed if chosen.seed is None else chosen.seed
    settings = settings._replace(seed=seed, limit=trained.recipe.run.max_episode_steps)
    watch = Watch(trained.recipe.run.env_timeout, source, context.on_hang)
    env = open_env(source, settings, backend, watch)
    fps = fps_of(env) if chosen.fps is None else chosen.fps
    path = chosen.out or (home or run_dir) / VIDEOS / f"step_{trained.env_steps}{suffix}"
    context.report.note(
        f"recording {run_dir} at {trained.env_steps:,} steps{planned}, drawn by {backend.name or 'itself'}"
    )
    played = Played()
    count = encoding.write(frames(trained, env, settings, played, watch), fps, path)
    watch.close()
    size = path.stat().st_size
    return Recorded(path, count, played.returns, played.lengths, trained.env_steps, backend.name, size)


def _source(trained: policy.Policy, chosen: Chosen, task: str) -> str:
    """The text of the environment that is played. Raises UsageError."""
    env = chosen_env(trained.recipe, chosen.env, chosen.allow_import)
    if isinstance(env, tuple):
        if not task:
            names = ", ".join(each.name for each in env)
            raise UsageError("This run has several tasks.", f"Choose one of them: --task {names}.")
        check_task(task, list(trained.tasks))
        env = next(each.source for each in env if each.name == task)
    elif task:
        check_task(task, [])
    if not isinstance(env, str):
        raise UsageError("A video needs an environment that has an id.", "Register it with Gymnasium, and give --env.")
    return env
