"""`estep compare` writes a page, tables and figures of several runs, and refuses what cannot be compared."""

from __future__ import annotations

import csv
import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest

RELEASE = Path(__file__).parents[1] / "releases" / "0.1.0"
RUNS = [str(RELEASE / name) for name in ("sac-Pendulum-v1", "iterative-sac-Pendulum-v1", "mpo-Pendulum-v1")]


def columns(path, *names):
    with path.open(newline="") as file:
        return [tuple(row[name] for name in names) for row in csv.DictReader(file)]


def test_compare_writes_page_tables_and_figures_into_one_folder(run, tmp_path):
    out = tmp_path / "some" / "out"
    ended = run("compare", str(out), *RUNS, "--json")
    assert ended.code == 0
    assert ended.record["status"] == "done"
    figures = ("curves_Pendulum-v1", "profile_Pendulum-v1", "improvement_chance_Pendulum-v1")
    names = [
        *("evaluations.csv", "curves.csv", "statistics.csv", "pairs.csv", "profiles.csv", "compare.html"),
        *(f"{name}.{kind}" for name in figures for kind in ("png", "svg")),
    ]
    assert ended.record["files"] == {name: str(out / name) for name in names}
    assert sorted(path.name for path in out.iterdir()) == sorted(names)
    found = columns(out / "evaluations.csv", "algorithm", "settings")
    assert {algorithm for algorithm, _ in found} == {"sac", "iterative-sac", "mpo"}
    assert all({"hidden_sizes", "gamma", "warmup_steps", "seed"} <= set(json.loads(text)) for _, text in found)

    again = tmp_path / "again"
    said = run("compare", str(out), RUNS[0], "--csv", str(again)).out  # its own folder stands for the runs in it
    assert "wrote    5 files" in said
    assert "note     1 run has the seed and the settings of another one. The last counts." in said
    assert (again / "evaluations.csv").read_bytes() == (out / "evaluations.csv").read_bytes()


def test_compare_writes_a_page_and_a_table_of_statistics(run, tmp_path, monkeypatch):
    out, table = tmp_path / "new" / "cmp.html", tmp_path / "made" / "statistics.csv"
    ended = run("compare", *RUNS[:2], "--out", str(out), "--csv", str(table), "--at", "300", "--json")
    assert ended.record["files"] == {"cmp.html": str(out), "statistics.csv": str(table)}
    assert "<title>Pendulum-v1</title>" in out.read_text()
    assert set(columns(table, "curve", "seeds", "env_steps")) == {("sac", "1", "300"), ("iterative-sac", "1", "300")}
    (pair,) = ended.record["comparison"]["pairs"]
    assert (pair["first"], pair["second"], pair["low"]) == ("sac", "iterative-sac", None)
    assert any("at 300 of 300 steps" in note for note in ended.record["comparison"]["notes"])
    monkeypatch.chdir(tmp_path)
    assert run("compare", *RUNS[:2]).code == 0  # the page alone, in this folder
    assert (tmp_path / "compare.html").is_file()


def test_compare_takes_a_folder_of_runs(run, tmp_path):
    for i, source in enumerate(RUNS):
        folder = tmp_path / "runs" / f"algo{i}" / "env" / "a-run"
        folder.mkdir(parents=True)
        for file in ("run.json", "config.json", *(("eval.csv",) if i < 2 else ())):
            (folder / file).write_bytes((Path(source) / file).read_bytes())
    (tmp_path / "runs" / "loop").symlink_to(tmp_path / "runs")
    ended = run("compare", str(tmp_path / "runs"), "--out", str(tmp_path / "a.html"), "--json")
    assert ended.code == 0
    assert {row["curve"] for row in ended.record["comparison"]["statistics"]} == {"sac", "iterative-sac"}
    assert "algo2/env/a-run has no evaluation yet and is left out." in ended.record["comparison"]["notes"]


def test_compare_takes_a_file_named_latest(run, tmp_path):
    (tmp_path / "latest").write_text("a\n")
    (tmp_path / "a").symlink_to(RUNS[0])
    assert run("compare", str(tmp_path / "latest"), RUNS[1], "--csv", str(tmp_path / "out")).code == 0
    assert columns(tmp_path / "out" / "evaluations.csv", "algorithm")[0] == ("sac",)


def test_compare_merges_what_was_inspected(run, tmp_path):
    for name, source in (("a", RUNS[0]), ("b", RUNS[1])):
        (tmp_path / name / "plots").mkdir(parents=True)
        for file in ("run.json", "config.json"):
            (tmp_path / name / file).write_bytes((Path(source) / file).read_bytes())
        (tmp_path / name / "plots" / "improvement.csv").write_text("iteration,mean,low,high\n0,0,0,0\n1,2,1,3\n")
    ended = run("compare", str(tmp_path / "out"), str(tmp_path / "a"), str(tmp_path / "b"), "--inspected", "--json")
    assert ended.code == 0
    assert set(ended.record["files"]) == {
        *("over_seeds.csv", "improvement.csv", "improvement_tests.csv", "improvement.png", "improvement.svg")
    }
    found = columns(tmp_path / "out" / "improvement.csv", "algorithm", "iteration", "mean")
    assert found == [(name, str(k), str(2.0 * k)) for name in ("sac", "iterative-sac") for k in (0, 1)]
    (tmp_path / "runs").mkdir()
    for name in "ab":
        (tmp_path / name).rename(tmp_path / "runs" / name)
    again = run("compare", str(tmp_path / "again"), str(tmp_path / "runs"), "--inspected")  # a folder of runs
    assert again.code == 0
    assert columns(tmp_path / "again" / "improvement.csv", "algorithm", "iteration", "mean") == found


def broken(folder):
    (folder / "run.json").write_text("{}")
    (folder / "config.json").write_text('{"algorithm": {"name": "sac"}, "env": {"id": "E"}, "run": {"seed": 0}}')
    return str(folder)


def test_compare_refuses_what_it_cannot_compare(run, tmp_path):
    (tmp_path / "a").mkdir()
    without = broken(tmp_path / "a")
    (tmp_path / "empty").mkdir()
    (tmp_path / "other").mkdir()
    other = broken(tmp_path / "other")
    (tmp_path / "other" / "eval.csv").write_bytes((Path(RUNS[0]) / "eval.csv").read_bytes())
    page = ["--out", str(tmp_path / "cmp.html")]
    for arguments, code, message in (
        ([], 2, "is given no run"),
        (["out"], 2, "out is none, and holds none"),
        ([without, RUNS[1], *page], 3, "There is no evaluation in"),
        (["evaluations.csv", RUNS[0], *page], 3, "evaluations.csv"),
        ([str(tmp_path / "empty"), RUNS[0], *page], 3, "not a run folder"),
        (["out", str(tmp_path / "empty")], 3, "not a run folder"),
        ([RUNS[0], *page], 3, "no two curves"),
        ([RUNS[0], RUNS[0], *page], 3, "no two curves"),
        ([RUNS[0], other, *page], 3, "--by task"),
        ([RUNS[0], RUNS[1], *page, "--at", "1000"], 3, "after the end of the shortest"),
        ([RUNS[0], RUNS[1], *page, "--at", "soon"], 2, "no number of steps"),
        ([RUNS[0], RUNS[1], *page, "--by", "env"], 2, "task"),
        ([RUNS[0], RUNS[1], *page, "--reference", "atari"], 2, "no reference 'atari'"),
        ([RUNS[0], RUNS[1], *page, "--reference", "control-suite"], 3, "no line for Pendulum-v1"),
        ([RUNS[0], RUNS[1], "--out", str(tmp_path)], 2, "not the name of a page"),
        ([RUNS[0], RUNS[1], *page, "--inspected"], 2, "Give the folder first"),
        (["out", without], 3, "eval.csv"),
        (["out", without, "--inspected"], 3, "Run estep inspect"),
        (["out", RUNS[0], "--inspect"], 2, "--inspected"),
    ):
        ended = run("compare", *arguments)
        assert ended.code == code, arguments
        assert message in ended.err, arguments
        assert len(ended.err.splitlines()) <= 3
    assert not (tmp_path / "cmp.html").exists()


def test_compare_refuses_runs_without_an_evaluation(run, tmp_path):
    (tmp_path / "a").mkdir()
    folder = broken(tmp_path / "a")
    (tmp_path / "a" / "eval.csv").write_text("env_steps,updates,mean,std,episodes,min,max,wall_s\n")
    ended = run("compare", str(tmp_path / "out"), folder)
    assert ended.code == 3
    assert "no evaluation" in ended.err


def test_compare_imports_nothing_heavy_for_its_help_and_no_jax_at_all(tmp_path):
    check = f"""
import sys
from estep.cli.main import main
main(["compare", "--help"])
assert not {{"jax", "matplotlib", "scipy"}} & set(sys.modules)
assert main(["compare", {RUNS[0]!r}, {RUNS[1]!r}, "--out", {str(tmp_path / "out.html")!r}]) == 0
import estep.plots.across_runs  # of --inspected
assert "jax" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", check], check=True, capture_output=True, timeout=60)


@pytest.mark.long
@pytest.mark.parametrize("settings", [8, 200])
def test_two_hundred_runs_are_compared_in_ten_seconds(tmp_path, settings):
    """Eight settings with five seeds on five tasks, and two hundred settings with one seed on one."""
    lines = "".join(f"{1000 * i},{i},{{}},1.5,10,0,9,3\n" for i in range(1, 101))
    for i in range(200):
        folder = tmp_path / "runs" / f"run{i}"
        folder.mkdir(parents=True)
        seed, env = (i // 8 % 5, f"Some-v{i // 40}") if settings == 8 else (0, "Some-v0")
        config = {"algorithm": {"name": "sac", "beta": 1.0 + i % settings}, "env": {"id": env}, "run": {"seed": seed}}
        (folder / "run.json").write_text("{}")
        (folder / "config.json").write_text(json.dumps(config))
        head = "env_steps,updates,mean,std,episodes,min,max,wall_s\n"
        (folder / "eval.csv").write_text(head + lines.format(*(i % settings + k / 100 for k in range(100))))
    (tmp_path / "scale.csv").write_text("task,low,high\nSome-v*,0,10\n")
    page = tmp_path / "cmp.html"
    command = [sys.executable, "-m", "estep", "compare", str(tmp_path / "runs"), "--out", str(page), "--by", "task"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    subprocess.run([*command, "--reference", str(tmp_path / "scale.csv")], check=True, capture_output=True, timeout=120)
    assert (
        resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before < 10
    )  # of the processor: others may use it too
    assert page.stat().st_size < 8_000_000
