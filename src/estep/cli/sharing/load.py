"""`estep load`: what is in a policy that somebody shared."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from estep.cli.main import Context
from estep.cli.parse import parse
from estep.cli.reading import chosen_run
from estep.cli.resolve import run_folder
from estep.cli.results import aligned
from estep.errors import UsageError
from estep.settings import arguments as arguments_of
from estep.settings import schema


@dataclass(frozen=True)
class Load:
    """Read a file of estep publish as if a stranger had written it, check its policy, and say what it is. With --out it
    becomes a folder, which estep eval, record, report and export read."""

    run: Path
    """The file, or the folder of a run."""
    out: Path | None = None
    """A new folder for what is in it."""
    checkpoint: str = "best"
    """Checkpoint: best, latest, or its number of environment steps."""
    member: int | None = None
    """Seed of a population, by its number from 0."""
    allow_import: bool = False
    """Allow estep to import the modules that the configuration names."""
    trust_dir: bool = False
    """Read a run folder that other users may write to, whom you trust."""


def load(arguments: list[str], context: Context) -> int:
    """Say what is in a policy that somebody shared."""
    values, _ = parse("estep load", str(Load.__doc__), schema.of(Load), ("run",), arguments)
    arguments_of.checkpoint(values["checkpoint"])

    from estep.cli.sharing.publish import facts, usage
    from estep.export import archive
    from estep.policy import policy
    from estep.policy.saving import save
    from estep.runs.folder import RunFolder

    given, out = values["run"], values["out"]
    if out is not None and out.exists():
        raise UsageError(f"{out} exists, so nothing was written.", "Give --out the path of a new folder.")
    with archive.folder_of(given) as place:
        folder = run_folder(place, context.results, values["trust_dir"])
        with chosen_run(folder, values, replay=False) as run:
            trained = policy.load(run, values["checkpoint"], allow_import=values["allow_import"])
            found = facts(trained, RunFolder.open(run).read_run())
            saved = None if out is None else save(trained, out, optimisers=False)
    context.results.known["run_dir"] = str(given)
    context.results.say("\n".join(aligned([(name, str(value)) for name, value in found.items()], indent="")))
    if saved is not None:
        context.results.say(f"wrote    {saved}")
    context.results.say("use      {}   or   {}".format(*usage(trained, saved or given)))
    about = {"env_steps": trained.env_steps, "updates": trained.updates}
    return context.results.finish(0, {**about, "policy": found, "folder": None if saved is None else str(saved)})
