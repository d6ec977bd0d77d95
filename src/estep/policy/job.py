"""The caller's side of a run: who gets reports, and when to stop."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from estep import terminal
from estep.envs.guard.watch import end_process
from estep.errors import as_arguments, describe_raised


class Reporter(Protocol):
    """Receives notes and numbers during a run. It cannot change the run."""

    def started(self, run_dir: Path) -> None:
        """Called when the run's folder exists."""

    def note(self, text: str) -> None:
        """Called with one line of text for the user."""

    def progress(self, record: Mapping[str, float]) -> None:
        """Called with the progress of training: env_steps, steps, updates, rates and the latest metrics."""


class Silent:
    """A reporter that ignores everything."""

    def started(self, run_dir: Path) -> None:
        """Ignore a folder."""

    def note(self, text: str) -> None:
        """Ignore a line."""

    def progress(self, record: Mapping[str, float]) -> None:
        """Ignore a record."""


class WithArguments:
    """A reporter whose notes name arguments in place of flags, for a run that Python begins."""

    def __init__(self, inner: Reporter) -> None:
        """Tell `inner` everything."""
        self.started, self.progress = inner.started, inner.progress
        self._inner = inner

    def note(self, text: str) -> None:
        """Pass on a line."""
        self._inner.note(as_arguments(text))


class Shielded:
    """A reporter whose failures do not end the run: what it is not told is counted, and the first failure is named."""

    def __init__(self, inner: Reporter) -> None:
        """Tell `inner` everything."""
        self.failures = 0
        """How many reports failed."""
        self._inner = inner

    def started(self, run_dir: Path) -> None:
        """Pass on a folder."""
        self._tell(lambda: self._inner.started(run_dir))

    def note(self, text: str) -> None:
        """Pass on a line."""
        self._tell(lambda: self._inner.note(text))

    def progress(self, record: Mapping[str, float]) -> None:
        """Pass on a record."""
        self._tell(lambda: self._inner.progress(record))

    def _tell(self, call: Callable[[], object]) -> None:
        try:
            call()
        except Exception as error:
            self.failures += 1
            if self.failures == 1:
                terminal.say(f"note     the progress of this run cannot be reported: {describe_raised(error)}\n")


class RunContext(NamedTuple):
    """What the caller of a run provides."""

    command: Sequence[str]
    """The command line, for the run's record."""
    report: Reporter
    stop: Callable[[], bool]
    """Whether the run should stop now."""
    on_hang: Callable[[str], None]
    """Called with a message when the environment hangs."""
    on_step: Callable[[Any], object] | None = None
    """Called with a RunState after each step of the environments. The run stops if it returns True."""
    on_evaluation: Callable[[Any], object] | None = None
    """Called with a RunState after each evaluation. The run stops if it returns True."""


def shielded(context: RunContext) -> RunContext:
    """The context with a reporter that cannot end the run."""
    return context._replace(report=Shielded(context.report))


def never_stop() -> bool:
    """Never stop a run."""
    return False


QUIET = RunContext((), Silent(), never_stop, end_process)
"""A context without reports and without stops."""


def note_reason(reason: str | None, report: Reporter) -> None:
    """Report a reason, if there is one."""
    if reason:
        report.note(reason)
