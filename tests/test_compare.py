"""Curves of several runs, and what was inspected in them, come out of their folders, seed by seed."""

import csv
import json

import pytest

from estep.algorithms import IterativeSAC
from estep.errors import RejectedInput
from estep.plots import across_runs
from estep.plots.learning_curves import Point, curves, newest, own_changes, points, write


def a_run(path, algorithm, env, seed, rows, changes):
    path.mkdir()
    (path / "run.json").write_text("{}")
    config = {"algorithm": {"name": algorithm, **changes}, "env": {"id": env, "by_id": True}, "run": {"seed": seed}}
    (path / "config.json").write_text(json.dumps(config))
    (path / "config.diff.json").write_text(json.dumps({**changes, "seed": seed, "steps": 20}))
    head = "env_steps,updates,mean,std,episodes,min,max,wall_s\n"
    (path / "eval.csv").write_text(head + "".join(f"{s},{s - 5},{m},1.5,10,0,9,3\n" for s, m in rows))
    return path


@pytest.fixture
def runs(tmp_path):
    return [
        a_run(tmp_path / "a", "sac", "Some-v0", 0, [(10, 1.0), (20, 5.0)], {"beta": 1.0}),
        a_run(tmp_path / "b", "sac", "Some-v0", 1, [(10, 3.0), (20, 7.0)], {"beta": 1.0}),
        a_run(tmp_path / "c", "sac", "Other-v0", 0, [(10, 2.0)], {}),
    ]


def test_every_evaluation_is_one_row_and_every_environment_one_figure(runs, tmp_path):
    found = [point for run in runs for point in points(run)]
    assert [(point.env, point.seed, point.env_steps, point.mean) for point in found] == [
        ("Some-v0", 0, 10, 1.0),
        ("Some-v0", 0, 20, 5.0),
        ("Some-v0", 1, 10, 3.0),
        ("Some-v0", 1, 20, 7.0),
        ("Other-v0", 0, 10, 2.0),
    ]
    assert {point.changes for point in found} == {"beta=1.0", ""}
    out = tmp_path / "out"
    out.mkdir()
    files = write(found, out)
    names = [
        "evaluations.csv",
        "curves.csv",
        *(f"curves_{env}.{kind}" for env in ("Some-v0", "Other-v0") for kind in ("png", "svg")),
    ]
    assert [file.name for file in files] == names
    assert all(file.stat().st_size for file in files)
    with files[0].open(newline="") as file:
        assert [row["mean"] for row in csv.DictReader(file)] == ["1.0", "5.0", "3.0", "7.0", "2.0"]

    assert points(files[0]) == found


def test_of_a_run_that_is_given_twice_the_last_counts():
    old, new = (Point("Some-v0", "sac", "", 0, 10, 5, mean, 1.0, 10) for mean in (1.0, 2.0))
    other = Point("Some-v0", "sac", "", 1, 10, 5, 3.0, 1.0, 10)
    assert newest([[old, other], [new]]) == [new, other]


def test_the_middle_of_seeds_is_their_interquartile_mean_and_its_interval_covers_it():
    point = lambda seed, mean: Point("Some-v0", "sac", "", seed, 10, 5, mean, 1.0, 10)
    (row,) = curves([point(seed, mean) for seed, mean in enumerate((0.0, 1.0, 2.0, 99.0))])
    assert (row.seeds, row.iqm) == (4, 1.5)
    assert 0.0 <= row.low < row.iqm < row.high <= 99.0
    (pair,) = curves([point(0, 1.0), point(1, 3.0)])
    assert pair[-3:] == (2.0, 1.0, 3.0)
    (equal,) = curves([point(seed, 7.0) for seed in range(3)])
    assert equal[-3:] == (7.0, 7.0, 7.0)


def test_a_label_says_what_sets_a_configuration_apart():
    every = ["hidden=[8,8] warmup=5", "hidden=[8,8] beta=1.5 warmup=5"]
    assert [own_changes("sac", changes, every) for changes in every] == [[], ["beta=1.5"]]
    assert own_changes("sac", "a=1", ["a=1"]) == []


def test_a_label_says_the_default_of_a_setting_that_several_values_are_tried_of():
    every = ["warmup=5", "beta=2.0 warmup=5", "beta=1.5 warmup=5"]
    assert [own_changes("sac", changes, every) for changes in every] == [["beta=1.0"], ["beta=2.0"], ["beta=1.5"]]
    assert own_changes("iterative-sac", every[0], every) == [f"beta={IterativeSAC().beta}"]
    assert own_changes("vmpo", every[0], every) == []  # which has no such setting
    assert own_changes("of another version", every[0], every) == []


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(RejectedInput):
        points(tmp_path)
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(RejectedInput, match="does not have the columns env, algorithm"):
        points(tmp_path / "other.csv")
    with pytest.raises(RejectedInput):
        across_runs.write([tmp_path], tmp_path)


def inspect(run, means, bias):
    (run / "plots").mkdir()
    rows = "".join(f"{k},{mean},{mean - 0.1},{mean + 0.1}\n" for k, mean in enumerate(means))
    (run / "plots" / "improvement.csv").write_text("iteration,mean,low,high\n" + rows)
    rows = f"3.0,True,{bias},{bias - 1},{bias + 1}\n0.0,False,9.0,8.0,10.0\n"
    (run / "plots" / "calibration.csv").write_text("beta,own,mean,low,high\n" + rows)
    rows = "".join(f"{i},{0.5 + i},0.25,{0.25 + i}\n" for i in range(3))
    (run / "plots" / "gap.csv").write_text("state,total,approximation,amortisation\n" + rows)
    (run / "plots" / "improvement_checkpoints.csv").write_text("env_steps,iteration,mean,low,high\n10,1,2.0,1.5,2.5\n")
    (run / "plots" / "transfer.csv").write_text(f"objective,iterations,missing\nown,5,{bias}\n")


def test_what_was_inspected_in_several_runs_is_gathered(runs, tmp_path):
    rising = [0.0, 3.0, 5.0, 6.0, 6.4, 6.6, 6.7, 6.75, 6.8, 6.85, 6.9, 7.0]
    inspect(runs[0], rising, -4.0)
    inspect(runs[1], [0.0, 1.0, -1.0], 2.0)
    out = tmp_path / "out"
    out.mkdir()
    files = across_runs.write(runs, out)
    assert {"improvement.png", "improvement_tests.csv", "calibration.svg"} <= {file.name for file in files}
    with (out / "improvement_tests.csv").open(newline="") as file:
        good, bad = csv.DictReader(file)
    assert float(good["spearman"]) == 1.0
    assert float(good["first_gain"]) == 2.0
    assert float(good["ratio"]) == pytest.approx(0.03)  # (6.9 - 6.6) / 5 / 2: what comes after the tenth is left out
    assert float(bad["spearman"]) < 0.0
    assert bad["ratio"] == "nan"
    with (out / "gap.csv").open(newline="") as file:
        first = next(csv.DictReader(file))
    assert [float(first[name]) for name in ("states", "total", "approximation", "amortisation")] == [3, 1.5, 0.25, 1.25]
    with (out / "transfer.csv").open(newline="") as file:
        assert [(row["seed"], row["objective"], row["missing"]) for row in csv.DictReader(file)] == [
            ("0", "own", "-4.0"),
            ("1", "own", "2.0"),
        ]
    with (out / "improvement_checkpoints.csv").open(newline="") as file:
        assert [(row["seed"], row["env_steps"]) for row in csv.DictReader(file)] == [("0", "10"), ("1", "10")]
    assert not (out / "staleness.csv").exists()
    assert not (out / "critics.csv").exists()
    with (out / "calibration.csv").open(newline="") as file:
        assert [(row["seed"], row["beta"], row["mean"]) for row in csv.DictReader(file)] == [
            ("0", "3.0", "-4.0"),
            ("1", "3.0", "2.0"),
        ]


def test_critics_are_averaged_over_the_last_lines_of_metrics(runs):
    lines = [{"env_steps": k, "critic/value": 10.0 * k, "critic/disagreement": 1.0 * k} for k in range(1, 13)]
    lines.append({"env_steps": 13, "critic/value": None, "critic/disagreement": 1.0})
    text = "".join(json.dumps(line) + "\n" for line in lines) + '{"env_steps": 14, "critic'  # being written
    (runs[0] / "metrics.jsonl").write_text(text)
    (found,) = across_runs.critics(runs[0])
    assert found[-3:] == (12, 80.0, 8.0)  # of lines 4 to 13, the last of which has no value
    (runs[1] / "metrics.jsonl").write_text('{"env_steps": 1}\n[2]\n')
    with pytest.raises(RejectedInput, match="not a JSON object"):
        across_runs.critics(runs[1])
    assert across_runs.critics(runs[2]) == []


def test_runs_are_added_to_those_that_were_gathered_before(runs, tmp_path):
    for run, bias in zip(runs, (-4.0, 2.0, 1.0), strict=True):
        inspect(run, [0.0, 1.0, 1.5], bias)
    line = json.dumps({"env_steps": 9, "critic/value": 3.0, "critic/disagreement": 0.1})
    (runs[1] / "metrics.jsonl").write_text(f"{line}\n")
    at_once, some, then = (tmp_path / name for name in ("at_once", "some", "then"))
    for out in (at_once, some, then):
        out.mkdir()
    files = across_runs.write(runs, at_once)
    across_runs.write(runs[:2], some)
    assert [file.name for file in across_runs.write([some, runs[2]], then)] == [file.name for file in files]
    for file in files:
        if file.suffix == ".csv":
            assert (then / file.name).read_bytes() == file.read_bytes()
    across_runs.write([some, runs[2]], some)  # into the folder that is read
    across_runs.write([some, runs[2]], some)  # and once more: a run replaces what was known of it
    for name in ("gap", "transfer", "improvement"):
        assert (some / f"{name}.csv").read_bytes() == (at_once / f"{name}.csv").read_bytes()
    (some / "gap.csv").write_text("env,total\nSome-v0,1.0\n")
    with pytest.raises(RejectedInput, match=r"gap\.csv does not have the columns"):
        across_runs.write([some], then)
