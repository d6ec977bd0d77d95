"""What a policy shows of its run, and where people look who come from other libraries."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from estep.envs.tasks.sources import ALL
from estep.export import archive
from estep.report.page import head
from estep.runs import tables
from estep.runs.folder import EVALUATIONS, METRICS, RunFolder
from estep.runs.lines import records

Columns: TypeAlias = Mapping[str, npt.NDArray[np.float64]]

SPELLINGS = {
    **dict.fromkeys(("predict", "get_action", "select_action", "sample_action", "step", "forward"), "act(observation)"),
    **dict.fromkeys(("compute_single_action", "compute_actions", "action", "sample"), "act(observation)"),
    **dict.fromkeys(("evaluate_policy", "test", "score", "rollout"), "evaluate(episodes=10)"),
    **dict.fromkeys(("save_model", "dump", "to_file"), "save(path)"),
    **dict.fromkeys(("set_env", "get_env"), "evaluate(env=...), which takes another environment"),
    **dict.fromkeys(("parameters", "state_dict", "params", "get_parameters", "weights"), "agent, a pytree of arrays"),
    **dict.fromkeys(("metrics", "evaluations", "logger", "log", "results"), "history"),
}
"""Names of other libraries, and what a policy has in their place."""
FUNCTIONS = {
    **dict.fromkeys(("learn", "train", "fit", "resume"), "estep.resume(policy.run_dir, steps=...)"),
    **dict.fromkeys(("load", "from_pretrained", "restore"), "estep.load(path)"),
    **dict.fromkeys(("export", "to_onnx", "to_numpy"), "estep export RUN --format npz, onnx or jax"),
    "push_to_hub": "estep publish RUN",
}
"""Names of other libraries, and the function or command of estep in their place."""


class History(NamedTuple):
    """The numbers of a run as arrays; with several tasks, of all of them together."""

    evaluations: Columns
    """The columns of eval.csv by name: env_steps, updates, mean, std and others. NaN where there is no number."""
    metrics: Columns
    """The numbers of metrics.jsonl by name, each as long as env_steps. NaN where a line has no such number."""


class Shown:
    """The views of the run that a policy is of."""

    run_dir: Path

    @property
    def history(self) -> History:
        """The evaluations and metrics of the run as arrays, read from its folder. Empty for a saved policy.

        Raises:
            RejectedInput: a file of the run cannot be read.
        """
        with archive.folder_of(self.run_dir) as place:
            folder = RunFolder.open(place).path
            rows = list(tables.cells(folder / EVALUATIONS)) if (folder / EVALUATIONS).is_file() else []
            whole = [{**row, "task": ""} for row in rows if row.get("task", ALL) == ALL]
            return History(columns(whole), columns(records(folder / METRICS)))

    def _repr_html_(self) -> str:
        """The head of the run's report, for notebooks."""
        with archive.folder_of(self.run_dir) as place:
            return head(RunFolder.open(place))

    if not TYPE_CHECKING:  # which knows what a policy has

        def __getattr__(self, name: str) -> Any:
            """Point from the names of other libraries to ours; it is called for names that a policy does not have."""
            ours = f"policy.{SPELLINGS[name]}" if name in SPELLINGS else FUNCTIONS.get(name)
            raise AttributeError(f"A policy has no {name}.{f' Use {ours}.' if ours else ''}")


def columns(rows: Iterable[Mapping[str, Any]]) -> dict[str, npt.NDArray[np.float64]]:
    """Records as arrays by name, of equal length: NaN where a record has no such number.

    Example:
        >>> from estep.policy.shown import columns
        >>> columns([{"env_steps": 1, "a": 2.0}, {"env_steps": 2, "b": "3"}])["b"].tolist()
        [nan, 3.0]
    """
    every = list(rows)
    names = dict.fromkeys(name for row in every for name in row if name != "task")
    return {name: np.asarray([_number(row.get(name)) for row in every]) for name in names}


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return float("nan")
