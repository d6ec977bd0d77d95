import pytest
from child import Notes, train
from several import SEVERAL, SMALL

from estep.population import session


@pytest.fixture(autouse=True)
def dead(monkeypatch):
    """A process that is killed saves nothing, and no checkpoint waits for its share of the time."""
    monkeypatch.setattr(session.PopulationSession, "rescue", lambda session: None)
    monkeypatch.setattr(session, "SHARE", 1.0)


@pytest.fixture(scope="session")
def whole(tmp_path_factory):
    """The folder of a population that was not interrupted, and what it reported."""
    report = Notes()
    return train(tmp_path_factory.mktemp("whole"), SMALL, report=report, **SEVERAL).run_dir, report
