"""`estep replay-step`, which repeats the update at which a run halted."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from estep.cli.main import Context
from estep.cli.parse import parse
from estep.errors import NumericHalt
from estep.settings import schema


@dataclass(frozen=True)
class ReplayStep:
    """Repeat the update at which a run halted, from the folder dump of the run. The exit code is 0 if it is skipped
    again, with every number as recorded, and 4 if not."""

    dump: Path
    """The folder dump of a run that halted."""
    allow_import: bool = False
    """Allow estep to import the modules that the dump names."""
    trust_dir: bool = False
    """Read a folder that other users may write to, whom you trust."""


def replay_step(arguments: list[str], context: Context) -> int:
    """Repeat the update of a dump."""
    values, _ = parse("estep replay-step", str(ReplayStep.__doc__), schema.of(ReplayStep), ("dump",), arguments)

    from estep.runs import reading
    from estep.training.recovery import dump

    reading.trust(values["trust_dir"])
    found = dump.repeat(values["dump"], allow_import=values["allow_import"])
    skipped = bool(found.metrics["skipped"])
    odd = {name: value for name, value in found.metrics.items() if not math.isfinite(value)}
    lines = [f"update   {found.update} was {'skipped' if skipped else 'made'}"]
    lines += [f"         {name} is {value}" for name, value in odd.items()]
    if found.blamed:
        lines.append(f"blame    sequence {', '.join(map(str, found.blamed))} of the batch, each by itself")
    lines.append(f"equal    {'yes, bit for bit' if found.equal else 'no: other numbers than recorded'}")
    context.results.say("\n".join(lines))
    context.results.known |= {"update": found.update, "skipped": skipped, "equal": found.equal, "blame": found.blamed}
    if not (skipped and found.equal):
        what = f"Update {found.update} was not repeated as it is recorded."
        raise NumericHalt(what, "Use the versions, the device and the number of threads that run.json records.")
    return context.results.finish(0, {"metrics": found.metrics})
