from __future__ import annotations

from typing import Any

import pytest
from commandline import command


@pytest.fixture
def run() -> Any:
    return command


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing may be left in the folder that the tests run in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ESTEP_RUNS_DIR", raising=False)
