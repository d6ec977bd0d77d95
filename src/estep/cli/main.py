"""The command line: `estep COMMAND ...`. What is not needed for a command is not imported for it."""

from __future__ import annotations

import contextlib
import contextvars
import functools as ft
import importlib
import os
import platform
import sys
import traceback
from collections.abc import Sequence
from typing import NamedTuple

from estep import terminal
from estep.cli.lifecycle import Lifecycle
from estep.cli.results import Results, aligned
from estep.errors import EstepError, UsageError, describe, unknown

GRACE = 20.0
"""Seconds a run has to save after a signal, before it is ended."""


class Command(NamedTuple):
    """Where a command lives: `run(arguments, context) -> exit code` in a module of this package."""

    module: str
    function: str
    usage: str
    summary: str
    grace: float = 0.0
    """Seconds it may go on after a signal; a command that only reads is ended at once."""
    slow: bool = False
    """Whether it imports JAX, which takes seconds."""


COMMANDS = {
    "train": Command("training", "train", "ALGO --env ID", "train an algorithm on an environment", GRACE, True),
    "compose": Command("training", "compose", "--env ID", "train a combination of parts of your own", GRACE, True),
    "resume": Command("training", "resume", "RUN", "go on with a run that was stopped", GRACE, True),
    "sweep": Command(
        "sweeping.sweep", "sweep", "ALGO ... --env ID ...", "train many runs as one plan in one folder", 40.0
    ),
    "tune": Command("sweeping.tune", "tune", "ALGO --env ID", "choose settings by a study of many trials", 40.0),
    "split": Command("training", "split", "RUN", "write the seeds of a population as runs of their own", slow=True),
    "eval": Command("reading", "evaluate", "RUN ...", "returns of a run's policy over whole episodes", slow=True),
    "inspect": Command(
        "inspecting", "inspect", "RUN ...", "what inference finds, what it misses, and what it costs", slow=True
    ),
    "report": Command("comparing", "report", "RUN", "one HTML file that shows a run"),
    "compare": Command("comparing", "compare", "RUN RUN ...", "statistics and learning curves of several runs"),
    "record": Command("sharing.record", "record", "RUN", "a video of a run's policy", slow=True),
    "export": Command("sharing.export", "export", "RUN", "write the policy for NumPy, ONNX or JAX alone", slow=True),
    "load": Command("sharing.load", "load", "FILE.zip", "say what is in a policy that somebody shared", slow=True),
    "publish": Command(
        "sharing.publish", "publish", "RUN", "write one file that anybody can load and evaluate", slow=True
    ),
    "verify": Command("health", "verify", "RUN ...", "check every checkpoint of a run"),
    "replay-step": Command("repeating", "replay_step", "DUMP", "repeat the update at which a run halted", slow=True),
    "algos": Command("listing", "algos", "[ALGO]", "the algorithms: their row of the table and their flags"),
    "envs": Command("listing", "envs", "[FILTER]", "the environments that Gymnasium knows here"),
    "presets": Command("listing", "presets", "[ALGO]", "the presets, and where each comes from"),
    "explain": Command("listing", "explain", "[NAME]", "what a setting, a metric or a term means"),
    "config": Command("configs", "config", "show|diff", "the resolved configuration of a run or an algorithm"),
    "check-env": Command("health", "check_env", "ID", "check that an environment is fit to train on"),
    "doctor": Command("health", "doctor", "", "check this machine and this installation"),
}


class Context(NamedTuple):
    """What a command is given beside its arguments."""

    results: Results
    life: Lifecycle
    command: tuple[str, ...]
    """The whole command line, for the record of a run."""


def entry() -> None:
    """The installed command. With --json, what exit handlers print goes to stderr: the JSON object is the last line."""
    code = main()
    if "--json" in sys.argv:
        with contextlib.suppress(OSError):
            os.dup2(2, 1)
    terminal.release()
    sys.exit(code)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    name, rest = _split(arguments)
    grace = COMMANDS[name].grace if name in COMMANDS else 0.0
    with Results("--json" in arguments, "--verbose" in arguments) as results:
        if name in COMMANDS and COMMANDS[name].slow and rest and not {"-h", "--help"} & set(rest):
            results.starting()
        with Lifecycle(ft.partial(results.last_words, grace=grace), grace=grace) as life:
            # In a context of its own, where --trust-dir holds.
            return contextvars.copy_context().run(_guarded, name, rest, Context(results, life, ("estep", *arguments)))


def _split(arguments: list[str]) -> tuple[str, list[str]]:
    """The command's name, before which --json and --verbose may stand, and everything else."""
    at = next((i for i, word in enumerate(arguments) if word not in ("--json", "--verbose")), None)
    return ("", arguments) if at is None else (arguments[at], arguments[:at] + arguments[at + 1 :])


def _guarded(name: str, rest: list[str], context: Context) -> int:
    """Run it, and turn every exception into an exit code and at most three lines."""
    results = context.results
    try:
        return _dispatch(name, rest, context)
    except EstepError as error:
        _trace(results.verbose)
        return results.fail(error.exit_code, error.what, error.fix)
    except (Exception, SystemExit) as error:  # SystemExit: an environment may try to end the process
        _trace(results.verbose)
        if results.verbose:
            fix = "Please report it."
        elif "run_dir" in results.known:
            fix = "Please report it, with the traceback in run.json."
        else:
            fix = "Run again with --verbose to see where it comes from."
        return results.fail(1, describe(error), fix)


def _dispatch(name: str, rest: list[str], context: Context) -> int:
    from estep.cli.parse import Help

    everything = f"Give one of: {', '.join(COMMANDS)}."
    if not name:
        raise UsageError("No command was given.", f"{everything} See estep --help.")
    if name in ("-h", "--help", "help"):
        context.results.help(usage())
        return 0
    if name == "--version":
        return _version(context)
    if name not in COMMANDS:
        raise unknown("command", name, COMMANDS, everything)
    module = importlib.import_module(f"estep.cli.{COMMANDS[name].module}")
    try:
        return int(getattr(module, COMMANDS[name].function)(rest, context))
    except Help as text:
        context.results.help(str(text))
        return 0


def _version(context: Context) -> int:
    from importlib import metadata

    version = metadata.version("estep")
    context.results.say(f"estep {version} (Python {platform.python_version()})")
    return context.results.finish(0, {"version": version})


def usage() -> str:
    """The help of the command line as a whole."""
    calls = {f"{name} {command.usage}".strip(): command.summary for name, command in COMMANDS.items()}
    options = {
        "--json": "end stdout with one JSON object, whatever happens",
        "--verbose": "show the traceback of an error",
        "--version": "print the version",
    }
    lines = aligned([*calls.items(), *options.items()])
    return "\n".join(
        [
            "usage: estep COMMAND ... [--json] [--verbose]",
            "",
            "Variational reinforcement learning for continuous and discrete control.",
            "",
            *lines[: len(calls)],
            "",
            *lines[len(calls) :],
            "",
            "estep COMMAND --help explains a command; estep train ALGO --help lists every hyperparameter.",
            "Exit codes: 0 done, 2 usage, 3 input rejected, 4 numeric halt, 5 environment failure, 6 storage failure,",
            "75 stopped cleanly (resume the run), 130 interrupted twice.",
        ]
    )


def _trace(verbose: bool) -> None:
    if verbose:
        terminal.say(traceback.format_exc())


if __name__ == "__main__":
    entry()
