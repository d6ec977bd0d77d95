"""`estep export`: a policy that acts without the library."""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from estep.cli.main import Context
from estep.cli.parse import parse
from estep.cli.reading import chosen_run
from estep.cli.resolve import run_folder
from estep.errors import RejectedInput
from estep.settings import arguments as arguments_of
from estep.settings import schema

if TYPE_CHECKING:
    from estep.export.contract import Subject
    from estep.policy.policy import Policy

OBSERVATIONS = 1000
"""Of a check."""


@dataclass(frozen=True)
class Export:
    """Write the policy of a run so that it acts without estep: for NumPy alone, for ONNX, or as a JAX program.
    Normalisation of observations and the bounds of actions are inside. Its actions are first compared with those of
    the run on 1,000 observations."""

    run: Path
    """Folder of the run, a file `latest` that has the folder's name, or a file of estep publish."""
    format: str = "npz"
    """npz (NumPy alone), onnx (needs the extra onnx to write it), or jax (needs JAX alone)."""
    out: Path | None = None
    """A new folder. Without it export/FORMAT in the run folder, where it replaces an earlier export."""
    checkpoint: str = "best"
    """Checkpoint: best, latest, or its number of environment steps."""
    member: int | None = None
    """Seed of a population, by its number from 0."""
    stochastic: bool = False
    """Draw actions from the policy, as in training, instead of taking its mode."""
    eval_with: str | None = None
    """Whether an algorithm that plans acts by its plans or by the policy that proposes them: plan or policy."""
    allow_import: bool = False
    """Allow estep to import the modules that the run folder names."""
    trust_dir: bool = False
    """Read a run folder that other users may write to, whom you trust."""


def export(arguments: list[str], context: Context) -> int:
    """Write a policy for NumPy, ONNX or JAX alone."""
    values, _ = parse("estep export", str(Export.__doc__), schema.of(Export), ("run",), arguments)
    arguments_of.checkpoint(values["checkpoint"])

    from estep.export import archive, write

    write.check_form(values["format"])
    given: Path = values["run"]
    with archive.folder_of(given) as place:
        folder = run_folder(place, context.results, values["trust_dir"])
        of_member = "" if values["member"] is None else f"-member-{values['member']}"
        kind = f"{values['format']}{'-stochastic' if values['stochastic'] else ''}"
        out = values["out"] or folder / "export" / f"{kind}{of_member}"
        if place is not given:
            context.results.known["run_dir"] = str(given)
            out = values["out"] or given.with_name(f"{given.stem}-{kind}")
        with chosen_run(folder, values, replay=True) as run:
            return _export(run, out, values, context)


def _export(run: Path, out: Path, values: dict[str, Any], context: Context) -> int:
    """As `export`, of a run folder of one seed."""
    from estep.export import write
    from estep.policy import policy, recorded
    from estep.policy.saving import subject_of
    from estep.runs import checkpoint, reading, strict
    from estep.runs import manifest as manifests

    which = values["checkpoint"]
    trained, _ = recorded.acting(
        policy.load(run, which, allow_import=values["allow_import"]), None, values["eval_with"]
    )
    manifest = reading.read_path(checkpoint.locate(run, which) / manifests.NAME, strict.MAX_JSON)
    subject = subject_of(trained, hashlib.sha256(manifest).hexdigest(), drawn=values["stochastic"])
    obs, origin = observations(trained, which, subject)
    context.results.say(f"checking {values['format']} on {len(obs):,} {origin}")
    made = write.export(subject, values["format"], obs, out.absolute(), replace=values["out"] is None)
    found = made.check
    size = sum(made.sizes.values())
    context.results.say(f"wrote    {made.folder}: {', '.join(made.sizes)} ({size / 1024:,.0f} KiB)")
    ties = f", {found.ties} with two actions that are equally good" if found.ties else ""
    context.results.say(
        f"actions  differ by at most {found.largest:.1e} of their width (limit {found.limit:g}{ties}); "
        f"{found.microseconds:,.0f} µs for one"
    )
    record = {"folder": str(made.folder), "files": made.sizes, "bytes": size, "observations": found.observations}
    record |= {"observations_from": origin, "largest_difference": found.largest, "limit": found.limit}
    return context.results.finish(0, {**record, "ties": found.ties, "microseconds": found.microseconds})


def observations(trained: Policy, which: str, subject: Subject) -> tuple[Any, str]:
    """Observations [n, o] of a check, and where they are from.

    Args:
        trained: the policy.
        which: its checkpoint.
        subject: what is exported of it.
    """
    from estep.export import parity
    from estep.instruments import states

    if trained.run_dir.is_dir() and not trained.recipe.run.population:
        with contextlib.suppress(RejectedInput):  # a policy that was saved has no replay
            return states.recent_states(trained, which, OBSERVATIONS), "observations of the run's replay"
    return parity.drawn(subject, OBSERVATIONS), "normal observations, because there is no replay"
