"""A run at Weights & Biases. Its environment variables hold, such as WANDB_MODE=offline and WANDB_PROJECT."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from typing import Any

AXIS = "env_steps"


class WandbRun:
    """An open run."""

    def __init__(self, run: Any) -> None:
        self._run = run
        run.define_metric(AXIS)
        run.define_metric("*", step_metric=AXIS)

    def log(self, numbers: Mapping[str, float], step: int) -> None:
        """Add numbers at a step of the environments."""
        self._run.log({**numbers, AXIS: step})

    def close(self) -> None:
        """Send what is left."""
        self._run.finish()


def opened(identity: str, name: str, settings: Mapping[str, Any]) -> WandbRun:
    """The run of this id: a new one, or that of before.

    Args:
        identity: the id.
        name: its name for people.
        settings: the configuration, for the tables of the service.
    """
    wandb: Any = importlib.import_module("wandb")
    quiet = wandb.Settings(console="off", silent=True, save_code=False, disable_git=True)
    project = os.environ.get("WANDB_PROJECT", "estep")
    run = wandb.init(
        project=project,
        id=identity,
        name=name,
        resume="allow",
        config=dict(settings),
        settings=quiet,
        reinit="create_new",
    )
    return WandbRun(run)
