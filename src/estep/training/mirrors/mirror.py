"""A mirror: a thread that copies the numbers of a run to a service. Whatever fails there, the run goes on."""

from __future__ import annotations

import importlib.util
import queue
import secrets
import threading
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from estep.errors import UsageError, describe
from estep.runs.folder import RunFolder
from estep.runs.strict import FILE_NAME
from estep.training.mirrors import in_mlflow, in_wandb

WAITING = 1_000
"""Records that may wait for the service. Later ones are dropped, so that a service that hangs takes no memory."""
PATIENCE = 20.0
"""Seconds that the end of a run waits for the last records."""
PACKAGES = {"wandb": "wandb", "mlflow": "mlflow"}
"""What each service needs, by the value of the setting `log`. The extra has the name of the service."""
IDS = "mirrors"
"""The field of run.json that has the run's id at each service."""


class Target(Protocol):
    """An open run at a service."""

    def log(self, numbers: Mapping[str, float], step: int) -> None:
        """Add numbers at a step of the environments."""

    def close(self) -> None:
        """Send what is left."""


OPENERS: Mapping[str, Callable[[str, str, Mapping[str, Any]], Target]] = {
    "wandb": in_wandb.opened,
    "mlflow": in_mlflow.opened,
}
"""From the run's id, its name and its settings to the run at the service: a new one, or that of before."""


def check_installed(service: str) -> None:
    """Refuse a service whose package is missing, before a run starts. Raises UsageError."""
    package = PACKAGES.get(service)
    if package is not None and importlib.util.find_spec(package) is None:
        what = f"--log {service} needs the package {package}, which is not installed."
        raise UsageError(what, f"Install it: pip install 'estep[{service}]'.")


class Mirror:
    """Copies numbers to a service. No method raises an error of the service or waits for it, except at the end."""

    def __init__(self, service: str, folder: RunFolder, note: Callable[[str], None]) -> None:
        """Start the thread, which opens the run at the service.

        Args:
            service: a key of PACKAGES.
            folder: the run folder, which is locked. Its run.json gets the run's id, by which a resumed run goes on.
            note: called once with a line for the user if numbers are lost.
        """
        self._service, self._note = service, note
        self._why, self._named, self._lost = "", False, 0
        known = folder.read_run().get(IDS)
        ids = dict(known) if isinstance(known, dict) else {}
        if not (isinstance(ids.get(service), str) and FILE_NAME.fullmatch(ids[service])):
            ids[service] = secrets.token_hex(4)
            folder.update_run(**{IDS: ids})
        about = ids[service], f"{folder.path.parts[-3]}-{folder.path.name}", folder.read_config()
        self._waiting: queue.Queue[tuple[dict[str, float], int] | None] = queue.Queue(WAITING)
        self._thread = threading.Thread(target=self._copy, args=about, name=f"estep-{service}", daemon=True)
        self._thread.start()

    def add(self, numbers: Mapping[str, float], step: int) -> None:
        """Add numbers at a step of the environments."""
        try:
            self._waiting.put_nowait((dict(numbers), step))
        except queue.Full:
            self._lost += 1
        self._warn()

    def close(self) -> None:
        """Wait a little for the last records."""
        try:
            self._waiting.put_nowait(None)
        except queue.Full:
            self._lost += 1
        self._thread.join(PATIENCE)
        self._lost += self._thread.is_alive()
        self._warn()

    def _warn(self) -> None:
        """Report once that numbers are lost."""
        if (self._why or self._lost) and not self._named:
            self._named = True
            why = self._why or "it does not answer"
            self._note(
                f"note     numbers for {self._service} are lost ({why}); metrics.jsonl has them, the run goes on"
            )

    def _copy(self, identity: str, name: str, settings: Mapping[str, Any]) -> None:
        """Copy records until there are no more, or until the service fails."""
        ended = False
        try:
            target = OPENERS[self._service](identity, name, settings)
            while (record := self._waiting.get()) is not None:
                target.log(*record)
            ended = True
            target.close()
        except (Exception, SystemExit) as error:  # of whatever kind: a mirror is not worth a run
            self._why = describe(error).partition("\n")[0][:200]
            while not ended:  # until the end of the run, so that no record waits
                ended = self._waiting.get() is None
