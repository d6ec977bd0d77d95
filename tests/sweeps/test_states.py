"""What has become of a run is read from its files, and what a sweep will take from its runs."""

import json
import os
import socket

import pytest

from estep.runs import reading
from estep.sweeps import estimate, status
from estep.sweeps.lines import folder_of

LIVES = {"pid": os.getpid(), "host": socket.gethostname(), "start": "now"}
DEAD = {**LIVES, "pid": 2**22 + 1}


def found(tmp_path, record=None, said="", lock=None):
    """The state of a run with these files."""
    folder = folder_of(tmp_path, "a")
    folder.mkdir(parents=True, exist_ok=True)
    (tmp_path / "logs").mkdir(exist_ok=True)
    (tmp_path / "logs" / "a.out").write_text(said)
    for name, content in (("run.json", record), (".lock", lock)):
        if content is not None:
            (folder / name).write_text(json.dumps(content))
    return status.of(tmp_path, "a")


FAILED = '{"status": "error", "exit_code": 5, "error": "The environment raised."}\n'
LOCKED = '{"status": "error", "exit_code": 3, "error": "x is being written by process 7 on host h."}\n'


@pytest.mark.parametrize(
    ("files", "state", "code"),
    [
        ({}, "waiting", None),
        ({"lock": LIVES}, "running", None),
        ({"lock": DEAD}, "waiting", None),
        ({"record": {"status": "running"}, "lock": LIVES}, "running", None),
        ({"record": {"status": "running"}, "lock": DEAD}, "stopped", None),
        ({"record": {"status": "running"}, "lock": {**DEAD, "host": "elsewhere"}}, "running", None),
        ({"record": {"status": "running"}}, "stopped", None),
        ({"record": {"status": "stopped", "exit_code": 75}}, "stopped", None),
        ({"record": {"status": "done"}}, "done", 0),
        ({"record": {"status": "done"}, "said": FAILED}, "done", 0),
        ({"record": {"status": "error", "exit_code": 4, "error": "It halted."}}, "failed", 4),
        ({"said": FAILED}, "failed", 5),
        ({"record": {"status": "stopped"}, "said": FAILED}, "failed", 5),
        ({"record": {"status": "stopped"}, "said": LOCKED}, "stopped", None),
        ({"said": LOCKED}, "waiting", None),
        ({"said": FAILED[:30]}, "waiting", None),
        ({"said": "[1]\n"}, "waiting", None),
        ({"record": [1]}, "waiting", None),
    ],
)
def test_the_state_of_a_run(tmp_path, files, state, code):
    one = found(tmp_path, **files)
    assert (one.state, one.exit_code) == (state, code)


@pytest.mark.parametrize(("code", "goes_on"), [(1, False), (2, False), (4, False), (5, False), (6, True), (130, True)])
def test_only_what_is_not_of_the_run_is_tried_again_by_itself(code, goes_on):
    assert status.State("a", status.FAILED, exit_code=code).goes_on == goes_on


def test_the_last_whole_line_of_a_file_is_read(tmp_path):
    path = tmp_path / "a"
    for text, line in (("", b""), ("1\n2\n3", b"2"), ("1\n2\n", b"2"), ("1\n\n", b"1"), ("x" * 50 + "\n3\n", b"3")):
        path.write_text(text)
        assert reading.last_line(path, 20) == line


def test_the_time_of_a_step_is_that_after_the_start(tmp_path):
    lines = [{"env_steps": 100 * i, "updates": max(i - 2, 0), "wall_s": 20.0 + i} for i in range(1, 11)]
    cost = estimate._cost(lines, 5.0, 7.0)
    assert cost == (pytest.approx(0.01), pytest.approx(20.0), 5.0, 7.0)
    (tmp_path / "err").write_text("env      a\nreplay   1,000 transitions = 38.5 MB on the host\n")
    assert estimate._replay_bytes(tmp_path / "err") == 38.5e6


def test_a_file_in_the_place_of_a_run_folder_stops_that_run_alone(place):
    place.plan("--steps", "20", "--seeds", "0")
    first = next(place.path.glob("runs/*")).name
    ends = place.ends()
    other = place.path.with_name("other")
    (other / "runs").mkdir(parents=True)
    (other / "plan.json").write_bytes((place.path / "plan.json").read_bytes())
    (other / "runs" / first).write_text("")
    place.path = other
    ended = place.plan("--steps", "20", "--seeds", "0..1")
    assert ended.code == 1
    assert [one["id"] for one in ended.record["failed"]] == [first]
    assert ended.record["counts"]["done"] == 1
    (other / "runs" / first).unlink()
    assert place.sweep(str(other)).code == 0
    assert ends.items() <= place.ends().items()
