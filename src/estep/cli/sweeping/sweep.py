"""`estep sweep`: many runs as one plan in one folder, which goes on wherever it was stopped."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from estep import terminal
from estep.cli.main import Context
from estep.cli.parse import COMMON, Help, Parsed, parse
from estep.cli.resolve import row
from estep.cli.sweeping import given as reader
from estep.cli.sweeping.given import Given
from estep.errors import STOPPED, RejectedInput, UsageError, check
from estep.runs.folder import safe_name
from estep.settings import schema
from estep.sweeps import drive, engines, estimate, plan, status
from estep.sweeps.drive import Options
from estep.sweeps.engines import Where
from estep.sweeps.lines import Consent, Task
from estep.sweeps.plan import Run


@dataclass(frozen=True)
class Sweep:
    """Train every combination of algorithms, environments, seeds and values of a grid, each as a run folder of its own.
    Give algorithms and environments, a TOML file, or the folder of a sweep, which then goes on. estep sweep status,
    cancel and collect SWEEP show it, stop it and compare its runs."""

    env: tuple[str, ...] = ()
    """Environments. Each is trained on alone; "A B" in quotes is one run with the tasks A and B."""
    seeds: str = "0"
    """Seeds, such as 0..4 (which is 0 to 4) or 0,3,7."""
    grid: tuple[str, ...] = ()
    """name=v1,v2 ...: every combination of these values is trained. ALGO.name is of one algorithm alone."""
    set: tuple[str, ...] = ()
    """name=value ...: settings of all runs, as their flags. ALGO.name is of one algorithm alone."""
    preset: str = "auto"
    """Name of a preset, auto for that of each environment, or none."""
    out: Path | None = None
    """Folder of the sweep. One that exists is extended by what is new."""
    on: Literal["local", "slurm", "ray"] = "local"
    """Where the runs are processes: this machine, a SLURM cluster, or Ray."""
    jobs: int | None = None
    """Most processes at once. Without it one for each core of this machine, and on a cluster as many as it gives."""
    slurm: tuple[str, ...] = ()
    """Options of sbatch, such as partition=gpu time=04:00:00."""
    address: str = "auto"
    """Address of a Ray cluster, auto for the one of this machine, or local to start one here."""
    print: bool = False
    """Print the script for SLURM, and submit nothing."""
    retry: Literal["none", "failed"] = "none"
    """Whether runs that failed are tried again."""
    dry_run: bool = False
    """Print the runs and what they will take, and start nothing."""
    yes: bool = False
    """Go on with more than 1,000 runs."""
    allow_import: bool = False
    """Allow estep to import the modules that the plan in a folder names."""
    allow_drift: bool = False
    """Go on with runs of another machine or other versions, so that numbers may drift."""


OWN = {field.name for field in (*schema.of(Sweep), *COMMON)}
SUBCOMMANDS = ("status", "cancel", "collect")
USAGE = "Write estep sweep ALGO ... --env ID ... --seeds 0..4 --out SWEEP, or estep sweep SWEEP."


def sweep(arguments: list[str], context: Context) -> int:
    """Plan a sweep, extend it, or go on with it."""
    if arguments and arguments[0] in SUBCOMMANDS:
        from estep.cli.sweeping import watch

        return watch.watch(arguments[0], arguments[1:], context)
    heads = next((i for i, word in enumerate(arguments) if word.startswith("-")), len(arguments))
    named, words = arguments[:heads], arguments[heads:]
    if not named:
        if {"-h", "--help"} & {*words}:
            raise Help(_help())
        raise UsageError("Neither algorithms nor the folder of a sweep was given.", USAGE)
    if len(named) == 1 and _is_folder(named[0], words):
        values, given = parse("estep sweep", "", schema.of(Sweep), (), words)
        if wrong := given & {"env", "seeds", "grid", "set", "preset", "out"}:
            what = f"--{min(wrong)} is given for a sweep that is planned already."
            raise UsageError(what, f"To extend it write the algorithms too: estep sweep ALGO ... --out {named[0]}.")
        return _go_on(Path(named[0]), (), values, context)
    return _planned(named, words, context)


def _is_folder(name: str, words: Sequence[str]) -> bool:
    path = Path(name)
    if (path / plan.PLAN).is_file() and "--env" not in words:
        return True
    known = schema.find(name) if ":" in name or name in schema.rows() else None
    if known is None and (path.is_dir() or os.sep in name) and path.suffix != ".toml":
        raise RejectedInput(f"{path} is not a sweep: it has no {plan.PLAN}.", USAGE)
    return False


def _help() -> str:
    try:
        parse("estep sweep", str(Sweep.__doc__), schema.of(Sweep), (), ["--help"])
    except Help as text:
        return f"{text}\nEvery setting of the algorithms is a flag too: estep train ALGO --help lists them."
    return ""


def _planned(named: Sequence[str], words: list[str], context: Context) -> int:
    """A sweep by its algorithms, or by a file."""
    file = reader.read_file(Path(named[0])) if len(named) == 1 and named[0].endswith(".toml") else None
    algorithms = named if file is None else file.algorithms
    values, flags = _flags(algorithms, words)
    own, settings = flags & OWN, reader.texts(flags - OWN, values)
    given = file or Given(algorithms, (), "0", "auto", {}, {})
    twice = sorted(set(settings) & set(by_set := reader.pairs("--set", values["set"])))
    if twice:
        raise UsageError(f"{twice[0]} is given as a flag and by --set.", "Give it once.")
    given = given._replace(
        envs=values["env"] if "env" in own else given.envs,
        seeds=values["seeds"] if "seeds" in own else given.seeds,
        preset=values["preset"] if "preset" in own else given.preset,
        settings={**given.settings, **settings, **by_set},
        grid={**given.grid, **reader.values_of("--grid", values["grid"])},
        out=values["out"] or given.out,
    )
    if given.out is None:
        raise UsageError("The folder of the sweep was not given.", "Give it: --out SWEEP.")
    return _new(given, given.out, values, context)


def _flags(algorithms: Sequence[str], words: list[str]) -> Parsed:
    """The flags, which every algorithm must have."""
    if not algorithms:
        raise UsageError("No algorithm was given.", USAGE)
    own = tuple(field for field in schema.of(Sweep))
    of_runs = tuple(field for field in schema.run_fields() if field.name != "seed")
    found: Parsed | None = None
    for name in algorithms:
        fields = (*own, *of_runs, *(field for field in row(name).fields if field.name not in OWN))
        about = f"{' '.join(str(Sweep.__doc__).split())} Flags of {name}:"
        found = parse(f"estep sweep {name}", about, fields, (), words)
    assert found is not None
    return found


def _new(given: Given, out: Path, values: dict[str, Any], context: Context) -> int:
    """Make a plan, or extend the one in the folder."""
    asked = reader.product(given)
    if asked.total > plan.MOST_RUNS and not values["yes"]:
        raise UsageError(f"These are {asked.total:,} runs.", "Give --yes if you mean it, or fewer seeds or values.")
    if out.exists() and not (out / plan.PLAN).is_file() and (not out.is_dir() or any(_files(out))):
        raise UsageError(f"{out} is not a sweep and not empty.", "Give a new folder with --out.")
    consent = {**values, "allow_import": True}  # whoever names a module on the command line may import it
    return _go_on(out, tuple(asked.runs()), consent, context)


def _files(out: Path) -> list[str]:
    """What is in a folder, other than what a sweep leaves that died before it had a plan."""
    return [path.name for path in out.iterdir() if path.name != ".lock" and not path.name.startswith(".tmp-")]


def of_seeds(arguments: list[str], context: Context) -> int:
    """`estep train ALGO --env ID --seeds 0..4`: a sweep with a plan that is made here."""
    from estep.cli.training import Train

    found = row(arguments[0])
    fields = (*schema.of(Train), *schema.run_fields(), *found.fields)
    values, flags = parse(f"estep train {found.name}", found.summary, fields, (), arguments[1:])
    if "seed" in flags:
        raise UsageError("--seed and --seeds are both given.", "Give one of them.")
    settings = reader.texts(flags - OWN - {field.name for field in schema.of(Train)}, values)
    env = " ".join(values["env"])
    given = Given([arguments[0]], [env], values["seeds"], values["preset"], settings, {})
    runs = Path(values["out"] if "out" in flags else os.environ.get("ESTEP_RUNS_DIR") or values["out"])
    name = f"{datetime.now():%Y%m%d-%H%M%S}-seeds-{safe_name(values['seeds'])}"
    place = values["run_dir"] or runs / safe_name(arguments[0]) / safe_name(env) / name
    own = {field.name: field.default for field in schema.of(Sweep)}
    return _new(given, place, own, context)


def _go_on(folder: Path, new: Sequence[Run], values: dict[str, Any], context: Context) -> int:
    """Run what is left of a sweep, with new runs if there are any."""
    check("jobs", values["jobs"] is None or values["jobs"] >= 1, values["jobs"], "at least 1")
    folder = folder.absolute()
    known = plan.read(folder) if (folder / plan.PLAN).is_file() else ()
    runs = plan.extend(known, new, lambda run: status.begun(folder, run))
    named = plan.imports(runs if not new else known)
    if named and not values["allow_import"]:
        what = f"The plan of {folder} imports {', '.join(named)}."
        raise UsageError(what, "Give --allow-import if you trust these modules and this folder.")
    consent = Consent(bool(values["allow_import"] and plan.imports(runs)), values["allow_drift"])
    if values["dry_run"]:
        found = estimate.estimate(folder, runs)
        context.results.say(estimate.page([Task(folder, run, consent) for run in runs], found))
        return context.results.finish(0, {"sweep": str(folder), "runs": len(runs), "estimate": found._asdict()})
    where = Where(values["on"], values["jobs"], reader.pairs("--slurm", values["slurm"]), values["address"])
    if values["print"]:
        if values["on"] != "slurm":
            raise UsageError("--print prints a script for SLURM.", "Give --on slurm too.")
        context.results.say(engines.script(folder, [Task(folder, run, consent) for run in runs], where))
        return context.results.finish(0, {"sweep": str(folder)})
    engines.check(where, folder)
    with drive.locked(folder):
        known = plan.read(folder) if (folder / plan.PLAN).is_file() else ()  # another sweep may have had it before
        runs = plan.extend(known, new, lambda run: status.begun(folder, run))
        if runs != known:
            plan.write(folder, runs)
        note(f"sweep    {folder}  ({len(runs)} runs)")
        options = Options(values["retry"] == "failed", consent, lambda: context.life.stop_requested, note)
        states = drive.to_the_end(folder, runs, engines.make(where, folder, note), options)
    return report(folder, states, context)


def note(text: str) -> None:
    """A line on stderr."""
    terminal.say(text + "\n")


def report(folder: Path, states: Sequence[status.State], context: Context) -> int:
    """Say what has become of a sweep; returns its exit code: 75 if something is left, else that of a failed run."""
    total, failed = status.counts(states), [state for state in states if state.state == status.FAILED]
    left = any(state.state in (status.WAITING, status.STOPPED, status.RUNNING) for state in states)
    line = ", ".join(f"{count} {name}" for name, count in total.items() if count)
    lines = [f"sweep    {folder}", f"runs     {line}"]
    lines += [f"failed   {state.id}: {state.error} (exit {state.exit_code})" for state in failed]
    lines += [f"resume   estep sweep {folder}"] if left else []
    lines += [f"retry    estep sweep {folder} --retry failed"] if failed else []
    context.results.say_recorded("\n".join(lines))
    record: dict[str, Any] = {"sweep": str(folder), "counts": total}
    record["failed"] = [{"id": one.id, "exit_code": one.exit_code, "error": one.error} for one in failed]
    if failed and not left:
        what = f"{len(failed)} of {len(states)} runs of {folder} failed, the first with: {failed[0].error}"
        context.results.known.update(record)
        return context.results.fail(failed[0].exit_code or 1, what, f"Then: estep sweep {folder} --retry failed.")
    return context.results.finish(STOPPED if left else 0, record)
