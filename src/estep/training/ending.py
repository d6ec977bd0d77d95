"""How a run ends: saved first whatever ends it early, and with its result in run.json."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from estep.envs.base import HostEnv
from estep.errors import STOPPED, EstepError, NumericHalt, StorageFailure, describe
from estep.policy.job import Reporter
from estep.runs import provenance
from estep.runs.folder import RunFolder
from estep.training.update import Improve


class Result(NamedTuple):
    """The result of a run. A number is None if it is not known."""

    status: str
    """"done" or "stopped"."""
    run_dir: Path
    env_steps: int
    updates: int
    eval_mean: float | None
    eval_std: float | None
    eval_episodes: int | None
    wall_s: float
    env_steps_per_s: float | None


def saving_first(train: Callable[[], str], rescue: Callable[[], None]) -> str:
    """Train, and save first if anything but a numeric halt or the disk ends the run early."""
    try:
        return train()
    except (NumericHalt, StorageFailure):
        raise
    except BaseException:
        rescue()
        raise


def rescue(save: Callable[[], int], report: Reporter) -> None:
    """Save a checkpoint because a run ends early. A failure is only reported, because another one ends the run."""
    try:
        step = save()
    except Exception as error:
        report.note(f"What was learned could not be saved: {error}")
    else:
        report.note(f"saved    step_{step} before the run ended early")


@contextlib.contextmanager
def beginning(folder: RunFolder) -> Iterator[None]:
    """Write into run.json why a run could not begin, for example because its files cannot be opened."""
    try:
        yield
    except EstepError as failure:
        record_end(folder, {"status": "error", "exit_code": failure.exit_code, "error": failure.what})
        raise


def to_the_end(
    folder: RunFolder, train: Callable[[], str], numbers: Callable[[], dict[str, Any]], close: Callable[[], None]
) -> Result:
    """Train, and write into run.json how the run ended, also after an exception.

    Args:
        folder: the locked run folder.
        train: trains to the end; it returns "done" or "stopped".
        numbers: what else run.json gets at the end, under "result" the numbers of a `Result`.
        close: closes the files.
    """
    begun = {"status": "running", "exit_code": None, "error": None, "traceback": None, "ended": None}
    folder.write_run({**folder.read_run(), **begun})
    status, code, error, trace, found = "error", 1, "", None, {}
    try:
        status = train()
        code = 0 if status == "done" else STOPPED
        found = numbers()
        return Result(status, folder.path, **found["result"])
    except EstepError as failure:
        code, error, trace = failure.exit_code, failure.what, traceback_of(failure) if failure.__cause__ else None
        raise
    except KeyboardInterrupt:
        status, code = "stopped", STOPPED
        raise
    except BaseException as failure:
        error, trace = describe(failure), traceback_of(failure)
        raise
    finally:
        close()
        ending = {"status": status, "exit_code": code, "error": error or None, "traceback": trace}
        record_end(folder, ending | (found or numbers()))


def traceback_of(failure: BaseException) -> str:
    """The end of the traceback of an exception, which may come after hours of training."""
    return "".join(traceback.format_exception(failure))[-20_000:]


def exactness(found: Improve, env: HostEnv) -> dict[str, Any]:
    """What run.json says of how exactly this run can be repeated, and on which machine."""
    told = {"environments": env.unrepeatable} if env.unrepeatable else {}
    return {"label": found.label, "probed": found.probed, **told, **provenance.machine()}


def record_end(folder: RunFolder, ending: dict[str, Any]) -> None:
    """Write into run.json how a run ended. If that fails too, the first failure is the one to report."""
    with contextlib.suppress(*(EstepError,) if ending["error"] else ()):
        folder.write_run({**folder.read_run(), **ending, "ended": provenance.now()})


def recorded_result(folder: RunFolder) -> Result | None:
    """The result in the folder of a finished run, or None."""
    record = folder.read_run()
    numbers = record.get("result")
    names = Result._fields[2:]
    if record.get("status") != "done" or not isinstance(numbers, dict) or not set(names) <= set(numbers):
        return None
    sound = all(value is None or type(value) in (int, float) for value in (numbers[name] for name in names))
    if not sound or type(numbers["env_steps"]) is not int:
        return None
    return Result("done", folder.path, **{name: numbers[name] for name in names})
