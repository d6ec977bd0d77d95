"""`estep compare` writes tables and figures of several runs, and refuses what cannot be compared."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

RELEASE = Path(__file__).parents[1] / "releases" / "0.1.0"
RUNS = [str(RELEASE / name) for name in ("sac-Pendulum-v1", "iterative-sac-Pendulum-v1", "mpo-Pendulum-v1")]


def columns(path, *names):
    with path.open(newline="") as file:
        return [tuple(row[name] for name in names) for row in csv.DictReader(file)]


def test_compare_writes_tables_and_learning_curves(run, tmp_path):
    out = tmp_path / "some" / "out"
    ended = run("compare", str(out), *RUNS, "--json")
    assert ended.code == 0
    assert ended.record["status"] == "done"
    names = ["evaluations.csv", "curves.csv", "curves_Pendulum-v1.png", "curves_Pendulum-v1.svg", "compare.html"]
    assert ended.record["files"] == {name: str(out / name) for name in names}
    assert sorted(path.name for path in out.iterdir()) == sorted(names)
    found = columns(out / "evaluations.csv", "algorithm", "settings")
    assert {algorithm for algorithm, _ in found} == {"sac", "iterative-sac", "mpo"}
    assert all({"hidden_sizes", "gamma", "warmup_steps", "seed"} <= set(json.loads(text)) for _, text in found)

    again = tmp_path / "again"
    said = run("compare", str(again), str(out), RUNS[0]).out  # its own folder stands for the runs in it
    assert "5 tables and figures" in said
    assert "curves_Pendulum-v1.png" in said
    assert (again / "evaluations.csv").read_bytes() == (out / "evaluations.csv").read_bytes()


def test_compare_takes_a_file_named_latest(run, tmp_path):
    (tmp_path / "latest").write_text("a\n")
    (tmp_path / "a").symlink_to(RUNS[0])
    assert run("compare", str(tmp_path / "out"), str(tmp_path / "latest")).code == 0
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
        *("improvement.csv", "improvement_tests.csv", "improvement.png", "improvement.svg")
    }
    found = columns(tmp_path / "out" / "improvement.csv", "algorithm", "iteration", "mean")
    assert found == [(name, str(k), str(2.0 * k)) for name in ("sac", "iterative-sac") for k in (0, 1)]


def broken(folder):
    (folder / "run.json").write_text("{}")
    (folder / "config.json").write_text('{"algorithm": {"name": "sac"}, "env": {"id": "E"}, "run": {"seed": 0}}')
    return str(folder)


def test_compare_refuses_what_it_cannot_compare(run, tmp_path):
    (tmp_path / "a").mkdir()
    without = broken(tmp_path / "a")
    for arguments, code, message in (
        ([], 2, "OUT"),
        (["out"], 2, "is given no run"),
        ([without, RUNS[1]], 2, "compare OUT RUN"),  # the folder of tables was forgotten
        (["evaluations.csv", RUNS[0]], 2, "compare OUT RUN"),
        (["out", str(tmp_path)], 3, "not a run folder"),
        (["out", without], 3, "eval.csv"),
        (["out", without, "--inspected"], 3, "Run estep inspect"),
        (["out", RUNS[0], "--inspect"], 2, "--inspected"),
    ):
        ended = run("compare", *arguments)
        assert ended.code == code, arguments
        assert message in ended.err, arguments
        assert len(ended.err.splitlines()) <= 3


def test_compare_refuses_runs_without_an_evaluation(run, tmp_path):
    (tmp_path / "a").mkdir()
    folder = broken(tmp_path / "a")
    (tmp_path / "a" / "eval.csv").write_text("env_steps,updates,mean,std,episodes,min,max,wall_s\n")
    ended = run("compare", str(tmp_path / "out"), folder)
    assert ended.code == 3
    assert "no evaluation" in ended.err


def test_compare_imports_nothing_heavy_for_its_help_and_no_jax_for_curves(tmp_path):
    check = f"""
import sys
from estep.cli.main import main
main(["compare", "--help"])
assert not {{"jax", "matplotlib", "scipy"}} & set(sys.modules)
assert main(["compare", {str(tmp_path / "out")!r}, {RUNS[0]!r}]) == 0
assert "jax" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", check], check=True, capture_output=True, timeout=60)
