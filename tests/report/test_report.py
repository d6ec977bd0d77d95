"""The report of a run: one file, with the numbers of the run's files, that no text of the run can break out of."""

import json
import math
import random
import re
import shutil
import time
from pathlib import Path

import pytest
from commandline import command
from report_pages import HOSTILE, Page, data_of, long_run

from estep.errors import RejectedInput, StorageFailure
from estep.m_steps.temperature import LOG_ALPHA_BOUNDS
from estep.report import health, page
from estep.report.contents import contents
from estep.report.curves import HELD, MOST, collect, thinned
from estep.report.live import LiveReport
from estep.runs import storage, tables
from estep.runs.folder import RunFolder

RELEASE = Path(__file__).parents[1] / "releases" / "0.1.0"


@pytest.fixture
def folder(tmp_path):
    """A run whose report can be written."""
    shutil.copytree(
        RELEASE / "iterative-sac-Pendulum-v1", tmp_path / "run", ignore=shutil.ignore_patterns("checkpoints")
    )
    return RunFolder.open(tmp_path / "run")


def test_the_page_holds_the_numbers_of_the_run(folder):
    path, found = page.write(folder)
    assert path == folder.path / "report.html"
    assert path.stat().st_mode & 0o777 == 0o600
    text = path.read_text()
    assert data_of(text) == json.loads(json.dumps({name: one for name, one in found.items() if name != "video"}))
    rows = list(tables.cells(folder.path / "eval.csv"))
    steps, means = found["charts"]["returns"][0]["curve"]
    assert steps == [int(row["env_steps"]) for row in rows]
    assert means == [float(row["mean"]) for row in rows]
    names = {name for line in folder.read_metrics() for name in line} - {"env_steps"}
    assert set(found["metrics"]) == names
    assert all(one["meaning"] for one in found["metrics"].values())
    assert dict(found["about"])["algorithm"] == "iterative-sac"
    assert "hidden_sizes" in {name for name, *_ in found["changes"]}
    assert {light["name"] for light in found["health"]} >= {"temperature", "skipped updates", "over-estimation"}


def test_the_page_says_where_a_run_went_on_otherwise(folder):
    forks = [{"env_steps": 2000, "source": "../a", "before": {"gamma": 0.9}, "after": {"gamma": 0.99}}]
    drifts = [{"env_steps": 3000, "changes": ["2 threads in place of 1"]}]
    folder.write_run({**folder.read_run(), "forks": forks, "drifts": drifts})
    told = dict(contents(folder)["about"])["went on otherwise"]
    assert told.splitlines() == [
        "at 2,000 steps as a copy of ../a: gamma 0.9 is now 0.99",
        "at 3,000 steps: 2 threads in place of 1",
    ]


def test_the_page_is_whole_and_asks_nobody(folder):
    text = page.write(folder)[0].read_text()
    parsed = Page(text)
    assert not parsed.open
    assert all(address.startswith("data:") for address in parsed.addresses)
    assert "polyline" in parsed.tags  # a curve for readers without scripts
    assert set(re.findall(r"https?://[^\s\"'<]+", text)) == {"http://www.w3.org/2000/svg"}
    assert "refresh" not in text.partition("</head>")[0]
    assert "refresh" in page.page({**contents(folder), "status": "running"}).partition("</head>")[0]


def test_no_text_of_the_run_is_taken_for_a_part_of_the_page(folder):
    config, record = folder.read_config(), folder.read_run()
    config["env"]["id"] = config["algorithm"]["name"] = HOSTILE
    folder.write_config(config, {HOSTILE: HOSTILE})
    folder.write_run(
        {**record, "status": HOSTILE, "error": HOSTILE, "command": [HOSTILE], "versions": {HOSTILE: HOSTILE}}
    )
    (folder.path / "metrics.jsonl").write_text(json.dumps({"env_steps": 1, HOSTILE: 2.0}) + "\n")
    (folder.path / "plots").mkdir(exist_ok=True)
    (folder.path / "plots" / "<img onerror=alert(3)>.png").write_bytes(b"no image")
    rows = [{**row, "task": task} for row in tables.cells(folder.path / "eval.csv") for task in ("all", HOSTILE)]
    tables.write(folder.path / "eval.csv", list(rows[0]), [list(row.values()) for row in rows])
    text = page.write(folder)[0].read_text()
    parsed = Page(text)
    assert parsed.tags.count("script") == 2
    assert not parsed.handlers
    assert "x" not in parsed.addresses
    assert data_of(text)["title"] == f"{HOSTILE} on {HOSTILE}"
    assert HOSTILE in {one["name"] for one in data_of(text)["charts"]["returns"]}


def test_a_run_without_lines_and_numbers_that_are_not_finite_have_a_report(folder):
    for name in ("metrics.jsonl", "eval.csv", "episodes.csv"):
        (folder.path / name).unlink()
    assert "no evaluation yet" in page.write(folder)[0].read_text()
    (folder.path / "eval.csv").write_text("env_steps,updates,mean,std,episodes,min,max,wall_s,success\n5,1,,,1,,,0,\n")
    (folder.path / "metrics.jsonl").write_text('{"env_steps":1,"m/kl":null}\n{"env_steps":2,"m/kl":0.5}\n')
    found = page.write(folder)[1]
    assert found["charts"]["returns"][0]["curve"] == [[5], [None]]
    assert found["metrics"]["m/kl"]["curve"] == [[1, 2], [None, 0.5]]


def test_a_folder_that_is_no_run_is_refused(folder):
    for record in (
        {"algorithm": []},
        {"algorithm": {"name": "sac"}},
        {"algorithm": {"name": "sac"}, "env": 3, "run": {}},
    ):
        folder.write_config(record, {})
        with pytest.raises(RejectedInput, match=r"config\.json"):
            page.write(folder)
    assert not (folder.path / "report.html").exists()


def test_a_link_is_replaced_and_never_followed(folder, tmp_path):
    other = tmp_path / "other"
    other.write_text("mine")
    (folder.path / "report.html").symlink_to(other)
    page.write(folder)
    assert other.read_text() == "mine"
    assert not (folder.path / "report.html").is_symlink()


def test_peaks_survive_in_a_long_curve():
    rng = random.Random(0)
    ys = [rng.gauss(0.0, 1.0) for _ in range(100_000)]
    ys[71_234], ys[3] = 50.0, -40.0
    xs, kept = thinned((list(range(100_000)), ys))
    assert len(xs) <= MOST
    assert (xs[0], xs[-1]) == (0, 99_999)
    assert xs == sorted(xs)
    assert {50.0, -40.0} <= set(kept)
    assert all(ys[x] == y for x, y in zip(xs, kept, strict=True))
    assert thinned(([0, 1], [None, 1.0])) == ([0, 1], [None, 1.0])
    assert thinned((list(range(9)), [None] * 9), 4) == ([0, 1, 8], [None, None, None])


def test_a_file_of_any_length_takes_little_memory():
    lines = ({"env_steps": i, "a": float(i % 977), "b": math.inf, "c": True} for i in range(5 * HELD))
    found = collect(lines)
    assert set(found) == {"a"}
    assert len(found["a"][0]) <= MOST
    assert max(found["a"][1]) == 976.0


def light(name, curves):
    lights = health.lights({key: ([1] * len(ys), ys) for key, ys in curves.items()}, {}, {}, False)
    return {one.name: one.word for one in lights}.get(name)


@pytest.mark.parametrize(
    ("name", "curves", "word"),
    [
        ("KL and its bound", {"m/kl": [2.9], "m/kl_bound": [3.0]}, "good"),
        ("KL and its bound", {"m/kl": [9.0], "m/kl_bound": [3.0]}, "watch"),
        ("temperature", {"m/alpha": [1.0, 0.1]}, "good"),
        ("temperature", {"m/alpha": [1.0, math.exp(-15)]}, "bad"),
        ("temperature", {"m/alpha": [math.exp(10)]}, "bad"),
        ("multipliers", {"m/alpha_mean": [math.exp(10)]}, "watch"),
        ("effective sample size", {"e/ess": [9.0, 9.0, 9.0, 1.2]}, "watch"),
        ("critics' disagreement", {"critic/disagreement": [5.0], "critic/value": [10.0]}, "watch"),
        ("critics' disagreement", {"critic/disagreement": [1.0], "critic/value": [-100.0]}, "good"),
        ("critic's targets", {"critic/target": [-9.8], "critic/value": [-10.0]}, "good"),
        ("critic's targets", {"critic/target": [-7e3], "critic/value": [-24.0], "critic/disagreement": [4.0]}, "watch"),
        ("skipped updates", {"skipped": [0.0], "updates": [10.0]}, "good"),
        ("skipped updates", {"skipped": [1.0], "updates": [1000.0]}, "watch"),
        ("skipped updates", {"skipped": [5.0], "updates": [10.0]}, "bad"),
        ("bad transitions", {"data/bad": [3.0]}, "watch"),
        ("actions at their bounds", {"data/at_bounds": [0.4]}, "good"),
        ("actions at their bounds", {"data/at_bounds": [0.1, 0.6]}, "watch"),
        ("model", {"model/outside": [0.5]}, "watch"),
        ("temperature", {}, None),
        ("realised advantage", {}, "not measured"),
    ],
)
def test_a_light_tells_good_from_bad(name, curves, word):
    assert light(name, curves) == word


@pytest.mark.parametrize(("name", "said"), [("iterative-sac", True), ("mpo", False)])
def test_minus_the_kl_is_an_entropy_under_a_flat_prior_alone(name, said):
    found = contents(RunFolder.open(RELEASE / f"{name}-Pendulum-v1"))
    assert ("entropy" in {light["name"] for light in found["health"]}) == said


def test_the_limits_are_those_of_the_temperature():
    assert health.LIMITS == LOG_ALPHA_BOUNDS


def test_what_was_inspected_has_a_light(folder):
    plots = folder.path / "plots"
    plots.mkdir(exist_ok=True)
    (plots / "calibration.csv").write_text("beta,own,mean,low,high\n0.0,False,9.0,8,10\n1.0,True,1.0,0,2\n")
    (plots / "realised.csv").write_text("optimiser,iterations,realised\niterative,5,-0.5\n")
    lights = {one["name"]: one for one in contents(folder)["health"]}
    assert "+1 above" in lights["over-estimation"]["sentence"]
    assert lights["realised advantage"]["word"] == "watch"


def test_a_live_report_never_ends_a_run(folder, monkeypatch):
    notes = []
    live = LiveReport(folder, notes.append)
    live.update()
    live.close()
    assert (folder.path / "report.html").is_file()
    live.update()  # too soon: nothing is written

    def fail(*arguments):
        raise StorageFailure("The disk is full.", "Free some.")

    monkeypatch.setattr(storage, "write_atomic", fail)
    live = LiveReport(folder, notes.append)
    for _ in range(3):
        live._due = 0.0
        live.update()
        live.close()
    (note,) = notes
    assert "not up to date" in note
    assert "The disk is full." in note


class AtOnce:
    """Stands for a thread: it runs when it starts."""

    def __init__(self, target, args=(), **more):
        self.start = lambda: target(*args)

    def is_alive(self):
        return False


@pytest.mark.parametrize("seconds", [0.01, 0.5, 20.0])
def test_reports_take_one_hundredth_of_the_time_of_a_run(folder, monkeypatch, seconds):
    """Whatever a page takes to write: at an evaluation each ten seconds for three hours."""
    clock, written = [0.0], []

    def write(folder):
        clock[0] += seconds
        written.append(clock[0])

    monkeypatch.setattr("estep.report.live.page.write", write)
    monkeypatch.setattr("estep.report.live.time.monotonic", lambda: clock[0])
    monkeypatch.setattr("estep.report.live.threading.Thread", AtOnce)
    live = LiveReport(folder, print)
    while clock[0] < 10_800:
        clock[0] += 10.0
        live.update()
    assert seconds * (len(written) - 1) <= 0.01 * clock[0]  # after the first one
    assert len(written) > (2 if seconds > 1 else 100)


@pytest.mark.long
def test_the_page_of_three_million_steps_is_written_in_three_seconds(folder):
    long_run(folder)
    begin = time.process_time()
    path, found = page.write(folder)
    assert time.process_time() - begin < 3.0
    assert path.stat().st_size < 1_000_000
    assert len(found["metrics"]) > 15


def test_the_command_writes_it(folder, tmp_path):
    ended = command("report", str(folder.path), "--out", str(tmp_path / "new" / "a.html"), "--json")
    assert ended.code == 0
    assert ended.record["file"] == str(tmp_path / "new" / "a.html")
    assert ended.record["report"]["title"] == "iterative-sac on Pendulum-v1"
    for arguments, code, says in (
        ([str(tmp_path)], 3, "not a run folder"),
        ([str(folder.path), "--out", str(tmp_path)], 2, "one file"),
        ([str(folder.path), "--member", "2"], 2, "no member 2"),
        ([str(folder.path), "--member", "-1"], 2, "--member"),
    ):
        ended = command("report", *arguments)
        assert (ended.code, says in ended.err) == (code, True), ended.err
