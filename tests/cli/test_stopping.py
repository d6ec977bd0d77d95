"""What a process that is ended by force leaves behind: a message, the JSON object and run.json."""

import json
import os
from datetime import datetime

import pytest

from estep.cli.results import Results
from estep.runs.folder import RunFolder, record_ending


@pytest.fixture
def running(tmp_path):
    """The folder of a run that this process writes."""
    with RunFolder.create(tmp_path, "sac", "E", 0, datetime(2026, 1, 1)) as folder:
        folder.write_run({"status": "running", "exit_code": None, "command": ["estep"]})
        yield folder


def results_of(folder):
    results = Results(False, False)
    results.known["run_dir"] = str(folder.path)
    return results


def test_a_stop_that_outlasts_its_grace_says_so_and_is_recorded(running, capsys):
    results_of(running).last_words(75, grace=20)
    assert "within 20 s of the signal, so it was ended" in (err := capsys.readouterr().err)
    assert f"estep resume {running.path}" in err
    record = running.read_run()
    assert (record["status"], record["exit_code"], record["command"]) == ("stopped", 75, ["estep"])
    assert "within 20 s" in record["error"]
    assert record["ended"]


def test_a_second_interrupt_is_recorded(running, capsys):
    results_of(running).last_words(130, grace=20)
    assert "Interrupted twice" in capsys.readouterr().err
    assert (running.read_run()["status"], running.read_run()["exit_code"]) == ("error", 130)


def test_a_command_that_reads_says_nothing_and_writes_nothing(running, capsys):
    results_of(running).last_words(75)
    assert capsys.readouterr().err == ""
    assert running.read_run()["status"] == "running"


def test_what_another_process_writes_or_what_has_ended_stays(running):
    holder = running.path / ".lock"
    holder.write_text(json.dumps({**json.loads(holder.read_text()), "pid": os.getppid()}))
    record_ending(running.path, {"status": "stopped"})
    assert running.read_run()["status"] == "running"
    holder.write_text(json.dumps({**json.loads(holder.read_text()), "pid": os.getpid()}))
    running.write_run({"status": "done"})
    record_ending(running.path, {"status": "stopped"})
    assert running.read_run() == {"status": "done"}
