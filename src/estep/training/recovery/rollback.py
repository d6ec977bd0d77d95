"""Goes back to the last sound checkpoint, once in a run, when too many updates were skipped."""

from __future__ import annotations

from pathlib import Path

from estep.errors import EstepError, NumericHalt
from estep.runs import checkpoint
from estep.training import snapshot
from estep.training.trainer import Trainer


def roll_back(trainer: Trainer, run_dir: Path) -> Path | None:
    """Load the newest sound checkpoint into a trainer, with other random numbers from here on.

    Args:
        trainer: the trainer of a run whose updates are skipped.
        run_dir: the run folder.

    Returns:
        The checkpoint; or None if the run has gone back before, or has no checkpoint that can be used.
    """
    if trainer.counts.rollbacks:
        return None
    try:
        found, _ = checkpoint.newest(run_dir)
        if found is None:
            return None
        trainer.forget()
        snapshot.restore(trainer, trainer.algorithm, found)
    except NumericHalt:
        raise
    except EstepError:  # what ends the run is the halt
        return None
    trainer.counts.rollbacks += 1
    trainer.rekey()
    return found
