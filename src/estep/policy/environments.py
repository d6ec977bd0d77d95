"""Makes the environments of a run and of its evaluation."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import gymnasium

from estep.core.types import Floats, Spec
from estep.envs import gymnasium as envs
from estep.envs.base import HostEnv
from estep.envs.build import EVAL, TRAIN
from estep.envs.elsewhere.pool import Pool
from estep.envs.guard.retry import Retries
from estep.envs.second import WITHOUT, build_again
from estep.envs.tasks import several
from estep.envs.tasks.sources import Envs, Given, Task, label, modules, read_envs, sources
from estep.errors import UsageError
from estep.policy.job import RunContext
from estep.policy.spaces import check_task
from estep.runs import config_file
from estep.runs.config_file import Recipe, TaskRecord
from estep.settings import groups, schema
from estep.settings.run import RunConfig


def task_records(env: Envs) -> tuple[TaskRecord, ...]:
    """The tasks of a run as its folder records them; none with one environment."""
    if not isinstance(env, tuple):
        return ()
    named = [(task.name, task.source) for task in env]
    return tuple(TaskRecord(name, label(source), isinstance(source, str)) for name, source in named)


def env_or_none(recipe: Recipe, allow_import: bool) -> Envs | None:
    """The environment of a recorded run, or its tasks, if no module has to be imported for them, or any may be."""
    found = recorded_env(recipe)
    try:
        return None if found is None or (modules(map(str, sources(found))) and not allow_import) else found
    except UsageError:  # a folder may hold anything; whoever evaluates is told
        return None


def no_env(what: str) -> UsageError:
    """The error for a policy or a population of which `env_or_none` gave None."""
    return UsageError(
        f"The environment of this {what} is not known: a function or a module's id made it.",
        "Pass that function or id as env. For an id it is enough to load with allow_import=True.",
    )


def recorded_env(recipe: Recipe) -> Envs | None:
    """The environment of a recorded run, or its tasks; None if a function made one of them."""
    if not recipe.tasks:
        return recipe.env if recipe.by_id else None
    tasks = tuple(Task(task.name, task.env) for task in recipe.tasks)
    return tasks if all(task.by_id for task in recipe.tasks) else None


def chosen_env(recipe: Recipe, env: Given | None, allow_import: bool) -> Envs:
    """The environment of a recorded run, or its tasks.

    Args:
        recipe: the run's configuration.
        env: the environment or environments that the user gave, or None.
        allow_import: whether the modules of the recorded ids may be imported.

    Raises:
        UsageError: the user must give the environment, or allow the import of its module; or gave others.
    """
    known = recorded_env(recipe)
    records = records_of(recipe)
    if env is not None:
        return _same(read_envs(env), recipe)
    if known is None:
        made = ", ".join(record.env for record in records if not record.by_id)
        raise UsageError(
            f"This run's environment {made} was made by a Python function.",
            "Pass that function as env in Python."
            if not recipe.tasks
            else "Pass the environments of all tasks as env in Python, a dict of them by name.",
        )
    needed = [] if allow_import else modules(record.env for record in records)
    if needed:
        raise UsageError(
            f"This run's environment needs the module {' and the module '.join(needed)}, "
            "which estep does not import by itself.",
            f"If you trust the module, give --env {_flags(recipe)} or --allow-import.",
        )
    return known


def records_of(recipe: Recipe) -> tuple[TaskRecord, ...]:
    """The tasks of a recorded run, or its only environment as a task without a name."""
    return recipe.tasks or (TaskRecord("", recipe.env, recipe.by_id),)


def _flags(recipe: Recipe) -> str:
    """What --env is given for the environment of a run, as a shell reads it."""
    named = [task.env if task.name == task.env else f"{task.name}={task.env}" for task in recipe.tasks]
    return " ".join(map(shlex.quote, named or [recipe.env]))


def _same(given: Envs, recipe: Recipe) -> Envs:
    """The environments that a user gave for a run. Raises UsageError if they are not those of the run."""
    ours = {task.name: task for task in records_of(recipe)}
    theirs = {task.name: task.source for task in given} if isinstance(given, tuple) else {"": given}
    texts = [
        name if name not in ours or not isinstance(source, str) or source == name else f"{name}={source}".lstrip("=")
        for name, source in theirs.items()
    ]
    same = set(ours) == set(theirs) and not any(
        isinstance(source, str) and ours[name].by_id and ours[name].env != source for name, source in theirs.items()
    )
    if same:
        return given
    now = " ".join(texts) or label(given)
    raise UsageError(
        f"This run has the environment {_flags(recipe)}, not {now}.",
        f"Give --env {_flags(recipe)}, or omit --env. To go on in another one, train a new run with --start-from.",
    )


def make_env(
    env: Envs, config: RunConfig, context: RunContext, stream: int, task: str = "", names: Sequence[str] = ()
) -> HostEnv:
    """Make the environments for training, or those for evaluating a policy that is not in training.

    Args:
        env: the environment, or the tasks.
        config: how many environments, seed, and limits.
        context: what to do if the environment hangs.
        stream: TRAIN, EVAL or FRESH.
        task: the name of the only task that is wanted; empty wants all.
        names: the names of all tasks of the run, where one is wanted.

    Raises:
        UsageError: there is no such task.
    """
    retries = Retries(config.retry_env)
    if task:
        tasks = env if isinstance(env, tuple) else (Task(task, env),)
        check_task(task, [one.name for one in tasks])
        (chosen,) = (one for one in tasks if one.name == task)
        return several.alone(_make(chosen, _options(config, context, stream, retries), config), names)
    options = _options(config, context, stream, retries)
    if not isinstance(env, tuple):
        return _make(Task("", env), options, config)
    with ExitStack() as stack:
        parts = []
        for one in env:
            parts.append(_make(one, options, config, env))
            stack.callback(parts[-1].close)
        joined = several.join(parts, label(env))
        stack.pop_all()
    return joined


def _make(one: Task, options: envs.Options, config: RunConfig, env: Envs = ()) -> envs.GymnasiumEnv:
    """The environments of one of the tasks of `env`, or those of a run with one environment, whose task has no name."""
    count = config.num_envs if options.stream == TRAIN else side_by_side(env or one.source, config)
    return envs.make(one.source, num_envs=count, name=one.name or None, **options._asdict())


@contextmanager
def make_pair(env: Envs, config: RunConfig, context: RunContext) -> Iterator[tuple[HostEnv, HostEnv | None]]:
    """The environments of a run: those of training, and those of its evaluations, which stay open as long.

    Raises:
        UsageError: no second environment can be made, or it has other spaces; or two tasks do not go together.
        EnvironmentFailure: estep cannot train on them.
    """
    tasks = env if isinstance(env, tuple) else (Task("", env),)
    pairs: list[list[envs.GymnasiumEnv]] = [[], []]
    retries = Retries(config.retry_env)
    with ExitStack() as stack:
        pool = Pool(config.env_workers, config.env_timeout) if config.env_workers else None
        if pool is not None:
            stack.callback(pool.close)
        for task in tasks:
            training = _make(task, _options(config, context, TRAIN, retries, pool), config)
            stack.callback(training.close)
            pairs[0].append(training)
        if config.eval_episodes:
            for task, training in zip(tasks, pairs[0], strict=True):
                options = _options(config, context, EVAL, retries, pool)
                watch = options.watch(training.name)
                made = build_again(task.source, side_by_side(env, config), training.envs, watch, pool)
                evaluation = envs.wrap(made, training.name, options, source=task.source, watch=watch)
                stack.callback(evaluation.close)
                check_equal_spaces(training, evaluation)
                pairs[1].append(evaluation)
        if not isinstance(env, tuple):
            yield pairs[0][0], pairs[1][0] if pairs[1] else None
            return
        joined = [several.join(parts, label(env)) for parts in pairs if parts]
        yield joined[0], joined[1] if joined[1:] else None


def _options(
    config: RunConfig, context: RunContext, stream: int, retries: Retries, pool: Pool | None = None
) -> envs.Options:
    cap = None if stream == TRAIN else config.max_episode_steps
    return envs.Options(
        config.seed, stream, cap, config.env_timeout, context.on_hang, config.detect_resets, retries, pool
    )


def side_by_side(env: Envs, config: RunConfig) -> int:
    """How many environments an evaluation has, of each task. An instance stands for one."""
    one = any(isinstance(source, gymnasium.Env) for source in sources(env))
    return 1 if one else max(1, min(config.eval_episodes, SIDE_BY_SIDE))


def check_equal_spaces(training: envs.GymnasiumEnv, evaluation: envs.GymnasiumEnv) -> None:
    """Check that evaluation has the spaces of training, bounds and dtypes included. Raises UsageError."""
    for name in ("observation_space", "action_space"):
        mine, other = getattr(training.envs[0], name), getattr(evaluation.envs[0], name)
        if mine != other:
            what = f"{training.name}: the {name} of training is {mine}, but that of evaluation is {other}."
            fix = f"Pass a function that makes and configures the environment; or {WITHOUT}."
            raise UsageError(what, fix)


def compare_starts(training: HostEnv, evaluation: HostEnv | None, first: Floats) -> str | None:
    """A note if the environment for evaluation starts elsewhere from the seed of the first training episode.

    Args:
        training: the environments of training.
        evaluation: those of evaluation.
        first: the first observations of training [E, o].
    """
    if evaluation is None:
        return None
    seed = training.seed_of_episode(0)
    tasks = list(training.tasks) or [training.name]
    starts = [evaluation.start_from(seed, i * evaluation.per_task) for i in range(len(tasks))]
    others = [task for i, task in enumerate(tasks) if starts[i].tobytes() != first[i * training.per_task].tobytes()]
    if not others:
        return None
    verb = "starts" if len(others) == 1 else "start"
    return (
        f"note     {', '.join(others)} {verb} differently from equal seeds, or evaluation has another environment than "
        "training: estep check-env tells"
    )


def time_limit_note(env: HostEnv, run: RunConfig) -> str | None:
    """A note on the length of evaluation episodes, if the environment has no time limit; else None."""
    if envs.NO_LIMIT not in env.describe()["time limit"]:
        return None
    return (
        f"note     {envs.NO_LIMIT}: an evaluation episode that lasts longer is cut after "
        f"{run.max_episode_steps:,} steps (--max-episode-steps)"
    )


def flattening_note(env: HostEnv) -> str | None:
    """A note on the order in which the parts of a Dict observation stand in the vector; None if it is no Dict."""
    for name, space in (env.tasks or {env.name: env.observation_space}).items():
        if space.parts[0].path:
            order = ", ".join(".".join(part.path) for part in space.parts)
            return f"note     the Dict observation of {name} is flattened in the order {order}"
    return None


def idle_note(recipe: Recipe, spec: Spec) -> str | None:
    """A note on settings that were changed and change nothing, beside the others or with this kind of action; else
    None. It is not known of somebody's own algorithm."""
    settings = vars(recipe.algorithm) if recipe.name in schema.sources() else {}
    idle = groups.idle(settings, len(spec.factors)) & settings.keys()
    named = [f"--{name.replace('_', '-')}" for name in config_file.differences(recipe) if name in idle]
    if not named:
        return None
    does, kind = "does" if len(named) == 1 else "do", "choices" if spec.factors else "numbers"
    return f"note     {', '.join(named)} {does} nothing with the other settings and actions that are {kind}"


SIDE_BY_SIDE = 10
"""Largest number of environments in an evaluation (of each task). The policy acts for all of them in one call."""
