"""`estep publish`: a policy with everything that belongs to it, as one file."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from estep.cli.main import Context
from estep.cli.parse import parse
from estep.cli.reading import chosen_run
from estep.cli.resolve import run_folder
from estep.cli.results import spread
from estep.errors import RejectedInput, UsageError
from estep.settings import arguments as arguments_of
from estep.settings import schema

if TYPE_CHECKING:
    from estep.policy.policy import Policy


@dataclass(frozen=True)
class Publish:
    """Write one checkpoint of a run with its configuration, its result, its report and a README into one zip, without
    replay and states of optimisers. estep.load and estep eval read it, and it is safe to open from a stranger."""

    run: Path
    """Folder of the run, or a file `latest` that has the folder's name."""
    out: Path | None = None
    """The file, which ends in .zip. Without it ALGORITHM-ENVIRONMENT.zip in this folder."""
    checkpoint: str = "best"
    """Checkpoint: best, latest, or its number of environment steps."""
    member: int | None = None
    """Seed of a population, by its number from 0."""
    force: bool = False
    """Replace a file that is there."""
    allow_import: bool = False
    """Allow estep to import the modules that the run folder names."""
    trust_dir: bool = False
    """Read a run folder that other users may write to, whom you trust."""


def publish(arguments: list[str], context: Context) -> int:
    """Write one file that anybody can load and evaluate."""
    values, _ = parse("estep publish", str(Publish.__doc__), schema.of(Publish), ("run",), arguments)
    arguments_of.checkpoint(values["checkpoint"])
    out: Path | None = values["out"]
    if out is not None and out.suffix != ".zip":
        raise UsageError(f"--out is {out}, which does not end in .zip.", "Give a name such as policy.zip.")
    folder = run_folder(values["run"], context.results, values["trust_dir"])

    from estep.policy import policy
    from estep.runs import storage
    from estep.runs.folder import safe_name

    with chosen_run(folder, values, replay=False) as run:
        trained = policy.load(run, values["checkpoint"], allow_import=values["allow_import"])
        path = out or Path(f"{safe_name(trained.recipe.name)}-{safe_name(trained.recipe.env)}.zip")
        if path.exists() and not values["force"]:
            raise UsageError(f"{path} exists, so nothing was written.", "Give --out another name, or --force.")
        data = packed(run, trained)
    storage.make_dir(path.absolute().parent)
    storage.write_atomic(path.absolute(), data)
    context.results.say(f"wrote    {path} ({len(data) / 1024:,.0f} KiB)")
    context.results.say("use      {}   or   {}".format(*usage(trained, path)))
    return context.results.finish(0, {"file": str(path), "bytes": len(data)})


def packed(run: Path, trained: Policy) -> bytes:
    """The bytes of the file.

    Args:
        run: the run folder.
        trained: its policy.

    Raises:
        RejectedInput: a file of the run is too large, or cannot be read.
    """
    from estep.export import archive
    from estep.policy.saving import save
    from estep.report import contents, page
    from estep.runs import leftovers, reading, strict
    from estep.runs.folder import EVALUATIONS, RUN, RunFolder

    folder = RunFolder.open(run)
    record = folder.read_run()
    with leftovers.folder_for_a_while() as place:
        saved = save(trained, place / "policy", optimisers=False)
        paths = [path for path in saved.rglob("*") if path.is_file() and not path.name.startswith(".")]
        files = {str(path.relative_to(saved)): reading.read_path(path, archive.MOST_BYTES) for path in paths}
    published = {**record, "status": "policy", "exit_code": 0, "traceback": None}  # which names folders of this machine
    files[RUN] = strict.dump(published, indent=1) + b"\n"
    files["report.html"] = page.page(contents.contents(folder)).encode()
    files["README.md"] = readme(trained, record).encode()
    try:
        if (folder.path / EVALUATIONS).is_file():
            files[EVALUATIONS] = reading.read_path(folder.path / EVALUATIONS, archive.MOST_BYTES)
        data = archive.pack(files)
        archive.unpacked(data)  # a file that cannot be read back must not be written
    except (OSError, ValueError) as error:
        raise RejectedInput(f"{run} cannot be published: {error}.", "Publish a run with smaller files.") from error
    return data


def facts(trained: Policy, record: Mapping[str, Any]) -> dict[str, str]:
    """What a policy is, by name, and what it needs.

    Args:
        trained: the policy.
        record: the content of run.json.
    """
    recipe, observed = trained.recipe, trained.observation_space
    versions: Mapping[str, Any] = record.get("versions") or {}
    found = {
        "environment": recipe.env,
        "tasks": ", ".join(task.name if task.name == task.env else f"{task.name}={task.env}" for task in recipe.tasks),
        "algorithm": f"{recipe.name}, seed {recipe.run.seed}",
        "trained": f"{trained.env_steps:,} environment steps, {trained.updates:,} updates",
        "evaluation": _evaluation(trained),
        "observation": f"{'' if observed is None else observed.describe()} numbers",
        "action": trained.action_space.describe(),
        "modules": ", ".join(_modules(trained)),
        "versions": ", ".join(f"{name} {value}" for name, value in versions.items() if value),
    }
    return {name: text for name, text in found.items() if text}


def _evaluation(trained: Policy) -> str:
    """The evaluation at the step of this checkpoint; empty if there was none."""
    rows = trained.history.evaluations
    here = rows["env_steps"] == trained.env_steps if rows else []
    if not any(here):
        return ""
    mean, std, episodes = (rows[name][here][-1] for name in ("mean", "std", "episodes"))
    return f"return {spread(mean, std)} over {episodes:.0f} episodes"


def _modules(trained: Policy) -> list[str]:
    """The modules that are not in the file, without which the algorithm or the environment cannot be made."""
    from estep.envs.tasks.sources import modules
    from estep.policy.environments import records_of
    from estep.runs.config_file import modules_of

    of_envs = modules(record.env for record in records_of(trained.recipe) if record.by_id)
    return list(dict.fromkeys([*modules_of(trained.recipe), *of_envs]))


def usage(trained: Policy, path: Path | str) -> tuple[str, str]:
    """The command and the expression that read a shared policy, with consent to import if it needs modules."""
    flag, argument = (" --allow-import", ", allow_import=True") if _modules(trained) else ("", "")
    return f"estep eval {shlex.quote(str(path))}{flag}", f"estep.load({str(path)!r}{argument})"


def readme(trained: Policy, record: Mapping[str, Any]) -> str:
    """The page that says what the file is and how to use it. The arguments are those of `facts`."""
    about = "\n".join(f"- {name}: {text}" for name, text in facts(trained, record).items())
    command, expression = usage(trained, "FILE.zip")
    task = f", task={trained.recipe.tasks[0].name!r}" if trained.recipe.tasks else ""
    note = "\nIts modules are not in this file. If you have them and trust them, let estep import them, as below.\n"
    return f"""# {trained.recipe.name} on {trained.recipe.env}

A policy that estep trained. There is no code in this file: it has arrays, a configuration and tables.

{about}
{note if _modules(trained) else ""}
```
pip install estep
{command}
```

```python
import estep

policy = {expression}
action = policy.act(observation{task})
```

report.html shows the run: learning curve, health, settings. eval.csv has the evaluations, config.json the settings.
"""
