"""A run at MLflow. Its environment variables hold, such as MLFLOW_TRACKING_URI and MLFLOW_EXPERIMENT_NAME."""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Iterator, Mapping
from typing import Any

ID = "estep.id"
"""The tag by which a resumed run is found."""
MOST_PARAMS = 100
"""Settings in one request."""


class MlflowRun:
    """An open run."""

    def __init__(self, entities: Any, client: Any, run_id: str) -> None:
        self._entities, self._client, self._run_id = entities, client, run_id

    def log(self, numbers: Mapping[str, float], step: int) -> None:
        """Add numbers at a step of the environments."""
        now = int(1000 * time.time())
        metrics = [self._entities.Metric(name, float(value), now, step) for name, value in numbers.items()]
        self._client.log_batch(self._run_id, metrics=metrics)

    def close(self) -> None:
        """Mark the run as ended."""
        self._client.set_terminated(self._run_id)


def opened(identity: str, name: str, settings: Mapping[str, Any]) -> MlflowRun:
    """The run of this id: a new one, or that of before.

    Args:
        identity: the id.
        name: its name for people.
        settings: the configuration, for the tables of the service.
    """
    entities: Any = importlib.import_module("mlflow.entities")
    client: Any = importlib.import_module("mlflow.tracking").MlflowClient()
    title = os.environ.get("MLFLOW_EXPERIMENT_NAME", "estep")
    experiment = client.get_experiment_by_name(title)
    number = client.create_experiment(title) if experiment is None else experiment.experiment_id
    found = client.search_runs([number], f"tags.`{ID}` = '{identity}'")
    if found:
        client.update_run(found[0].info.run_id, status="RUNNING")
        return MlflowRun(entities, client, found[0].info.run_id)
    run_id = client.create_run(number, tags={"mlflow.runName": name, ID: identity}).info.run_id
    params = [entities.Param(key, value[:500]) for key, value in flat(settings)]
    for i in range(0, len(params), MOST_PARAMS):
        client.log_batch(run_id, params=params[i : i + MOST_PARAMS])
    return MlflowRun(entities, client, run_id)


def flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested settings as pairs of a name and a text."""
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", str(value)
