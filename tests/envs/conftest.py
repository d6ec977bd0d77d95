"""The folder's own environments, and a place for the log file that MuJoCo writes to the working directory."""

import pytest


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
