"""What a user gives as the environments of a run: one, or several with a name each, which are its tasks."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import gymnasium

from estep.envs.build import Source, source_name
from estep.errors import UsageError
from estep.settings import references
from estep.settings.references import env_text

MOST_TASKS = 64
LONGEST_NAME = 200
LONGEST_LABEL = 80
ALL = "all"
"""What tables call the mean over all tasks, so that no task may have this name."""


class Task(NamedTuple):
    """One of several tasks."""

    name: str
    source: Source
    """What makes its environments; a text is without the task's name."""


Envs: TypeAlias = "Source | tuple[Task, ...]"
"""The environment of a run, or its tasks in the order of their names."""
Given: TypeAlias = "Source | Sequence[Any] | Mapping[str, Any]"
"""As a user gives them: one environment, a list of them, or a dict of them by name."""


def read_envs(given: Given) -> Envs:
    """The environment of a run or its tasks, as a user gives them. A list of one is that environment.

    Tasks are in the order of their names, so that the order in which they are given changes nothing.

    Raises:
        UsageError: none is given, or too many; two have one name; or a name cannot be one.

    Example:
        >>> [task.name for task in read_envs(["Pendulum-v1?g=5.0", "earth=Pendulum-v1"])]
        ['Pendulum-v1?g=5.0', 'earth']
    """
    one: Any = given
    if isinstance(given, str | gymnasium.Env) or callable(given) or hasattr(given, "observe"):  # the last: a PureEnv
        return one  # type: ignore[no-any-return]
    if not isinstance(given, Sequence | Mapping):
        return given
    if not given:
        raise UsageError("No environment is given.", "Give one or several.")
    if len(given) == 1 and not isinstance(given, Mapping):
        return only(given[0])
    if len(given) > MOST_TASKS:
        what = f"{len(given)} environments are given, and a run has at most {MOST_TASKS} tasks."
        raise UsageError(what, "Give fewer, or several runs.")
    pairs = given.items() if isinstance(given, Mapping) else [(None, one) for one in given]
    tasks = [_task(name, one) for name, one in pairs]
    names = [task.name for task in tasks]
    for name in names:
        if names.count(name) > 1:
            what = f"Two environments have the name {name!r}."
            raise UsageError(what, "Write NAME=Id for one of them (in Python give a dict of environments by name).")
    return tasks[0].source if len(tasks) == 1 else tuple(sorted(tasks, key=lambda task: task.name))


def only(one: Any) -> Source:
    """The environment of a list of one."""
    source: Source = one.source if isinstance(one, Task) else one
    return source


def _task(name: Any, one: Any) -> Task:
    """One of several environments as a task. Raises UsageError."""
    if isinstance(one, Task):
        return one
    source = one
    if isinstance(one, str):
        read = env_text(one)
        name, source = name or read.name, read.text
    return Task(_checked(name or task_name(one)), source)


def task_name(source: Source) -> str:
    """The name of a task that is given none: its text, its id with the arguments it was made with, or its function."""
    if isinstance(source, gymnasium.Env) and source.spec is not None:
        kwargs = {name: value for name, value in source.spec.kwargs.items() if name != "render_mode"}
        plain = {
            name: json.dumps(value) for name, value in kwargs.items() if isinstance(value, bool | int | float | str)
        }
        joined = "&".join(f"{name}={value}" for name, value in plain.items())
        return f"{source.spec.id}?{joined}" if joined else source.spec.id
    return source_name(source)


def _checked(name: Any) -> str:
    """A task's name. It goes into tables and figures. Raises UsageError."""
    fix = f"Give it a name of at most {LONGEST_NAME} printable characters."
    if not isinstance(name, str) or not name.strip() or not name.isprintable() or len(name) > LONGEST_NAME:
        raise UsageError(f"{name!r:.100} cannot be the name of a task.", fix)
    if name == ALL:
        raise UsageError(f"{ALL} cannot be the name of a task: tables have the mean over all tasks there.", fix)
    return name


def label(envs: Envs) -> str:
    """The name of a run's environments: of several tasks all names, shortened with a hash where they are long.

    Example:
        >>> label((Task("run", "Hopper-v5"), Task("walk", "Walker2d-v5")))
        'run+walk'
    """
    if not isinstance(envs, tuple):
        return source_name(envs)
    joined = "+".join(task.name for task in envs)
    digest = hashlib.sha256(joined.encode()).hexdigest()[:8]
    return joined if len(joined) <= LONGEST_LABEL else f"{joined[: LONGEST_LABEL - 9]}-{digest}"


def sources(envs: Envs) -> list[Source]:
    """What makes the environment of a run, or the environments of each of its tasks."""
    return [task.source for task in envs] if isinstance(envs, tuple) else [envs]


def modules(texts: Iterable[str]) -> list[str]:
    """The modules that environments need, each once. Raises UsageError for a malformed text."""
    return list(dict.fromkeys(module for text in texts if (module := env_text(text).module)))


def known_by_name(env: Envs | None) -> Envs | None:
    """The environments if all of them are ids, or classes or functions of a module, which can be pickled; else None."""
    known = [] if env is None else sources(env)
    return env if all(isinstance(source, str) or references.has_home(source) for source in known) else None
