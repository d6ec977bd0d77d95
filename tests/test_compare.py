"""Curves of several runs, and what was inspected in them, come out of their folders, seed by seed."""

import csv
import dataclasses
import json
from pathlib import Path

import pytest

from estep.algorithms import SAC, IterativeSAC
from estep.errors import RejectedInput
from estep.instruments.interval import interval
from estep.plots import across_runs, measured
from estep.plots.labels import IGNORED_FIELDS, labels, newest, recorded, run_label
from estep.plots.learning_curves import Point, curves, points, seeds_label, seeds_of, write_tables
from estep.plots.over_seeds import Number, means, over_seeds
from estep.settings.run import RunConfig

ROOT = Path(__file__).parents[1]


def a_run(path, algorithm, env, seed, rows, changes, **run):
    path.mkdir()
    (path / "run.json").write_text("{}")
    config = {
        "algorithm": {"name": algorithm, **changes},
        "env": {"id": env, "by_id": True},
        "run": {"seed": seed, **run},
    }
    (path / "config.json").write_text(json.dumps(config))
    head = "env_steps,updates,mean,std,episodes,min,max,wall_s\n"
    (path / "eval.csv").write_text(head + "".join(f"{s},{s - 5},{m},1.5,10,0,9,3\n" for s, m in rows))
    return path


@pytest.fixture
def runs(tmp_path):
    return [
        a_run(tmp_path / "a", "sac", "Some-v0", 0, [(10, 1.0), (20, 5.0)], {"beta": 1.5}),
        a_run(tmp_path / "b", "sac", "Some-v0", 1, [(10, 3.0), (20, 7.0)], {"beta": 1.5}),
        a_run(tmp_path / "c", "sac", "Other-v0", 0, [(10, 2.0)], {}),
    ]


def test_every_evaluation_is_one_row(runs, tmp_path):
    found = [point for run in runs for point in points(run)]
    assert [(point.env, point.seed, point.env_steps, point.mean) for point in found] == [
        ("Some-v0", 0, 10, 1.0),
        ("Some-v0", 0, 20, 5.0),
        ("Some-v0", 1, 10, 3.0),
        ("Some-v0", 1, 20, 7.0),
        ("Other-v0", 0, 10, 2.0),
    ]
    whole = [json.loads(point.settings) for point in found]
    defaults = json.loads(json.dumps(dataclasses.asdict(SAC()) | dataclasses.asdict(RunConfig())))
    assert whole[0] == defaults | {"beta": 1.5}
    assert whole[2] == defaults | {"beta": 1.5, "seed": 1}
    assert whole[4] == defaults
    out = tmp_path / "out"
    out.mkdir()
    files = write_tables(found, curves(found), out)
    assert [file.name for file in files] == ["evaluations.csv", "curves.csv"]
    assert all(file.stat().st_size for file in files)
    with files[0].open(newline="") as file:
        assert [row["mean"] for row in csv.DictReader(file)] == ["1.0", "5.0", "3.0", "7.0", "2.0"]

    assert points(files[0]) == found


def test_of_a_run_that_is_given_twice_the_last_counts():
    old, new = (Point("Some-v0", "sac", "{}", 0, 10, 5, mean, 1.0, 10) for mean in (1.0, 2.0))
    other = Point("Some-v0", "sac", "{}", 1, 10, 5, 3.0, 1.0, 10)
    assert newest([[old, other], [new]]) == [new, other]


def point(seed, mean, steps=10, settings="{}"):
    return Point("Some-v0", "sac", settings, seed, steps, 5, mean, 1.0, 10)


def test_a_point_of_a_curve_is_the_middle_of_its_seeds_with_its_interval():
    (row,) = curves([point(seed, mean) for seed, mean in enumerate((0.0, 1.0, 2.0, 99.0))])
    assert (row.middle, row.low, row.high) == interval([0.0, 1.0, 2.0, 99.0])
    assert (row.seeds, row.middle, row.lowest, row.highest) == (4, 25.5, 0.0, 99.0)
    (many,) = curves([point(seed, mean) for seed, mean in enumerate((*range(9), 1000.0))])
    assert many.middle == 4.5  # the interquartile mean
    (pair,) = curves([point(0, 1.0), point(1, 3.0)])
    assert (pair.middle, pair.lowest, pair.highest) == (2.0, 1.0, 3.0)
    assert pair.low < 1.0
    assert pair.high > 3.0
    (equal,) = curves([point(seed, 7.0) for seed in range(3)])
    assert (equal.middle, equal.low, equal.high) == (7.0, 7.0, 7.0)


def curve_of(*seeds, settings="{}"):
    """The curve of seeds with these evaluations, a dictionary from steps to returns for each."""
    return curves([point(i, mean, at, settings) for i, seed in enumerate(seeds) for at, mean in seed.items()])


def test_a_seed_that_reached_its_goal_is_carried_on_with_its_last_return():
    settings = '{"steps":40,"stop_at":95.0}'
    best, other = {10: 80.0, 20: 96.7}, {10: 50.0, 20: 60.0, 30: 70.0, 40: 71.0}
    rows = curve_of(best, other, best, settings=settings)
    assert [row.env_steps for row in rows] == [10, 20, 30, 40]
    assert [row.seeds for row in rows] == [3] * 4
    assert [row.carried for row in rows] == [0, 0, 2, 2]
    assert rows[-1].middle == pytest.approx((96.7 + 96.7 + 71.0) / 3)
    assert seeds_label(rows[-1]) == "n = 3, 2 stopped early and carried on"
    assert len(curve_of(best, best, settings=settings)) == 2  # nothing to carry them on to
    before = '{"changes":{"stop_at":95.0}}'
    assert [row.carried for row in curve_of(best, other, settings=before)] == [0, 0, 1, 1]


@pytest.mark.parametrize("settings", ["{}", '{"steps":40,"stop_at":99.0}', '{"steps":40,"stop_at":null}'])
def test_a_curve_ends_with_the_first_seed_that_ended_for_another_reason(settings):
    rows = curve_of({10: 80.0, 20: 96.7}, {10: 50.0, 20: 60.0, 30: 70.0, 40: 71.0}, settings=settings)
    assert [(row.env_steps, row.seeds) for row in rows] == [(10, 2), (20, 2)]
    assert seeds_label(rows[-1]) == "n = 2, cut at 20 steps, where a seed ends"


def test_steps_that_some_seed_does_not_have_are_no_point():
    assert [row.env_steps for row in curve_of({10: 1.0, 20: 2.0, 30: 3.0}, {15: 1.0, 30: 2.0})] == [30]
    with pytest.raises(RejectedInput, match="never evaluated after the same number of steps"):
        curve_of({10: 1.0}, {15: 2.0})


def texts(*curves):
    return list(labels((algorithm, json.dumps(settings)) for algorithm, settings in curves).values())


def test_a_label_names_the_settings_in_which_the_curves_differ_with_the_value_of_each():
    every = [("sac", {"hidden_sizes": [8, 8], "beta": beta, "warmup_steps": 5}) for beta in (1.0, 1.5)]
    assert texts(*every) == ["sac (beta 1)", "sac (beta 1.5)"]
    assert texts(every[0]) == ["sac"]
    assert texts(*every, ("iterative-sac", {"beta": 3.54}), ("vmpo", {"rollout": 8})) == [
        *("sac (beta 1)", "sac (beta 1.5)", "iterative-sac (beta 3.54)"),
        "vmpo",  # which has no such setting
    ]
    assert texts(("sac", {"tau": 0.1}), ("mpo", {"tau": 1.0})) == ["sac (tau 0.1)", "mpo (tau 1)"]
    assert set(IGNORED_FIELDS) < {field.name for field in dataclasses.fields(RunConfig)}
    ignored = [dict.fromkeys(IGNORED_FIELDS, value) for value in (1, 2)]
    assert texts(*(("sac", settings) for settings in ignored)) == ["sac", "sac"]


def test_a_label_is_written_for_people():
    some = {"act_iterations": 5, "direct_start": False, "hidden_sizes": [8, 16], "learning_rate": 0.0003}
    other = {"act_iterations": 0, "direct_start": True, "hidden_sizes": [8], "learning_rate": 0.1}
    assert texts(("iterative-sac", some), ("iterative-sac", other | {"stop_at": None})) == [
        "iterative-sac (act_iterations 5, no direct_start, hidden_sizes 8×16, learning_rate 0.0003)",
        "iterative-sac (act_iterations 0, direct_start, hidden_sizes 8, learning_rate 0.1)",
    ]
    first = texts(("mpo", {"a": 1, "z": 1}), ("mpo", {"a": 1, "z": 2}), ("sac", {"a": 2}))
    assert first == ["mpo (z 1, a 1)", "mpo (z 2, a 1)", "sac (a 2)"]  # what tells curves of one algorithm apart


def test_the_seed_is_no_setting_of_a_curve_and_a_default_that_is_written_out_is_the_same_setting(tmp_path):
    runs = [
        a_run(tmp_path / "a", "iterative-sac", "Some-v0", 0, [(10, 1.0)], {}, eval_every=5),
        a_run(tmp_path / "b", "iterative-sac", "Some-v0", 1, [(10, 3.0)], {"beta": IterativeSAC().beta}, steps=20),
        a_run(tmp_path / "c", "iterative-sac", "Some-v0", 1, [(10, 9.0)], {"beta": 1}),
    ]
    both, alone = curves([point for run in runs for point in points(run)])
    assert (both.seeds, both.middle, alone.seeds, alone.middle) == (2, 2.0, 1, 9.0)
    assert not set(IGNORED_FIELDS) & set(json.loads(both.settings))
    assert json.loads(both.settings)["beta"] == IterativeSAC().beta


def test_a_run_of_an_earlier_release_has_the_names_and_settings_of_today():
    env, algorithm, settings, seed = run_label(ROOT / "tests/releases/0.1.0/sac-Pendulum-v1")
    assert (env, algorithm) == ("Pendulum-v1", "sac")
    found = json.loads(settings)
    assert set(found) == {field.name for kind in (SAC, RunConfig) for field in dataclasses.fields(kind)}
    assert found["seed"] == seed
    old = json.loads((ROOT / "tests/releases/0.1.0/sac-Pendulum-v1/config.json").read_text())
    assert found["hidden_sizes"] == old["algorithm"]["hidden"]
    assert found["warmup_steps"] == old["run"]["warmup"]


def test_runs_of_an_algorithm_that_cannot_be_imported_are_compared(tmp_path):
    gone = [
        a_run(tmp_path / name, "gone_module:Gone", "Some-v0", 0, [(10, 1.0)], {"every": value, "tau": 1, "steps": 9})
        for name, value in (("a", 1), ("b", 2))
    ]
    found = [point for run in gone for point in points(run)]
    assert list(labels((point.algorithm, point.settings) for point in found).values()) == [
        "gone_module:Gone (every 1)",
        "gone_module:Gone (every 2)",
    ]
    settings = json.loads(found[0].settings)
    assert settings["algorithm.steps"] == 9  # its own, beside that of the run
    assert settings["steps"] == RunConfig().steps


def test_a_table_of_before_is_read_and_its_labels_are_the_recorded_changes(tmp_path):
    committed = (ROOT / "results/curves/evaluations.csv").read_text().splitlines()
    lines = [line for line in committed[1:] if line.startswith("HalfCheetah-v5,") and ",100000," in line]
    table = tmp_path / "evaluations.csv"
    table.write_text("\n".join([committed[0], *lines]) + "\n")
    found = points(table)
    assert len(found) == len(lines) > 10
    assert [point.mean for point in found] == [float(line.split(",")[-3]) for line in lines]
    texts = set(labels((point.algorithm, point.settings) for point in found).values())
    assert {
        "sac",
        "sac (updates_per_call 1)",
        "iterative-sac (beta 1)",
        "iterative-sac (act_iterations 5, no direct_start, restart_probability 0.25)",
        "iterative-sac (act_iterations 5, beta 1, no direct_start, restart_probability 0.25)",
    } <= {text.replace(", warmup_steps 10000", "").replace(" (warmup_steps 10000)", "") for text in texts}
    assert not recorded(found[0].settings).whole
    out = tmp_path / "out"
    out.mkdir()
    files = write_tables(found, curves(found), out)
    assert points(files[0]) == points(out) == found
    assert "settings" in files[0].read_text().partition("\n")[0].split(",")


def test_a_setting_that_is_newer_than_a_table_has_its_default(runs, tmp_path):
    found = [point for run in runs for point in points(run)]
    out = tmp_path / "out"
    out.mkdir()
    table, *_ = write_tables(found, curves(found), out)
    today = table.read_text()
    before = today.replace('""normalise_rewards"":false,', "").replace('""warmup_steps"":', '""warmup"":')
    assert len(before) < len(today)
    table.write_text(before)
    assert points(table) == found
    assert newest([points(table), found]) == found  # and so each is the same run as before


@pytest.mark.long
def test_runs_are_added_to_a_table_of_before(runs, tmp_path):
    table = tmp_path / "evaluations.csv"
    head = "env,algorithm,changes,seed,env_steps,updates,mean,std,episodes\n"
    table.write_text(head + "Some-v0,sac,beta=3.0,0,10,5,1.0,1.0,10\nSome-v0,sac,,0,10,5,2.0,1.0,10\n")
    found = newest(map(points, [table, *runs[:2]]))
    assert [point.mean for point in found] == [1.0, 2.0, 1.0, 5.0, 3.0, 7.0]
    texts = list(labels((point.algorithm, point.settings) for point in found).values())
    assert texts == ["sac (beta 3)", "sac", "sac (beta 1.5)", "sac (beta 1.5)"]
    assert len({row.settings for row in curves(found)}) == 3
    assert recorded('{"changes":{"beta":1.5}}').key != recorded('{"beta":1.5}').key  # of which all others are known


@pytest.mark.parametrize("settings", ["", "beta=1.0", "[1]", '{"beta": NaN}', "x" * 200_000], ids=lambda text: text[:9])
def test_a_table_with_broken_settings_is_refused(tmp_path, settings):
    table = tmp_path / "evaluations.csv"
    with table.open("w", newline="") as file:
        csv.writer(file).writerows([Point._fields, ("Some-v0", "sac", settings, 0, 10, 5, 1.0, 1.0, 10)])
    with pytest.raises(RejectedInput, match="cannot be read as env, algorithm, settings"):
        points(table)


def test_an_evaluation_that_was_not_finite_is_no_number(tmp_path):
    run = a_run(tmp_path / "a", "sac", "Some-v0", 0, [(10, ""), (20, 2.0)], {})
    first, second = points(run)
    assert first.mean != first.mean
    assert second.mean == 2.0


@pytest.mark.parametrize("config", ["{}", '{"algorithm": {"name": "sac"}, "env": null, "run": {"seed": 0}}'])
def test_a_run_without_a_sound_configuration_is_refused(tmp_path, config):
    run = a_run(tmp_path / "a", "sac", "Some-v0", 0, [(10, 1.0)], {})
    (run / "config.json").write_text(config)
    with pytest.raises(RejectedInput, match="not the configuration of a run"):
        points(run)


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(RejectedInput):
        points(tmp_path)
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(RejectedInput, match="cannot be read as env, algorithm"):
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
    (run / "plots" / "realised.csv").write_text(f"optimiser,iterations,predicted,realised\nadam,5,{bias},{-bias}\n")
    (run / "plots" / "transfer.csv").write_text(f"objective,iterations,missing\nown,5,{bias}\n")


def test_what_was_inspected_in_several_runs_is_merged(runs, tmp_path):
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
    with (out / "realised.csv").open(newline="") as file:
        assert [(row["seed"], row["realised"]) for row in csv.DictReader(file)] == [("0", "4.0"), ("1", "-2.0")]
    with (out / "transfer.csv").open(newline="") as file:
        assert [(row["seed"], row["objective"], row["missing"]) for row in csv.DictReader(file)] == [
            ("0", "own", "-4.0"),
            ("1", "own", "2.0"),
        ]
    with (out / "over_seeds.csv").open(newline="") as file:
        over = {(row["quantity"], row["of"], row["at"]): row for row in csv.DictReader(file)}
    both = {name: over[name] for name in (("gain, realised", "adam", "5"), ("over-estimation", "", "3"))}
    assert [(row["seeds"], float(row["mean"])) for row in both.values()] == [("2", 1.0), ("2", -1.0)]
    low = interval([4.0, -2.0]).low
    assert float(both["gain, realised", "adam", "5"]["low"]) == pytest.approx(low)  # Student's t over two seeds
    assert over["improvement", "", "11"]["seeds"] == "1"  # one run had so many iterations
    assert "gain, control" not in {quantity for quantity, *_ in over}  # its tables lack the column
    with (out / "improvement_checkpoints.csv").open(newline="") as file:
        assert [(row["seed"], row["env_steps"]) for row in csv.DictReader(file)] == [("0", "10"), ("1", "10")]
    assert not (out / "staleness.csv").exists()
    assert not (out / "critics.csv").exists()
    with (out / "calibration.csv").open(newline="") as file:
        assert [(row["seed"], row["beta"], row["mean"]) for row in csv.DictReader(file)] == [
            ("0", "3.0", "-4.0"),
            ("1", "3.0", "2.0"),
        ]


def test_what_was_inspected_in_the_seeds_of_a_population_is_merged(runs, tmp_path):
    for i, bias in enumerate((1.0, 2.0, 4.0)):
        (runs[1] / "members" / f"{i:04d}").mkdir(parents=True)
        inspect(runs[1] / "members" / f"{i:04d}", [0.0, 1.0], bias)
    found = measured.read([runs[1]])
    assert [(row.seed, row.mean) for row in found.calibration] == [(1, 1.0), (2, 2.0), (3, 4.0)]  # its first seed is 1
    assert [line["seed"] for line in found.copies["realised"]] == ["1", "2", "3"]
    assert measured.read([runs[1] / "members" / "0002"]).gap[0].seed == 3
    (over,) = [row for row in over_seeds(found.lines()) if row.quantity == "over-estimation"]
    assert (over.seeds, over.mean, over.subject) == (3, pytest.approx(7 / 3), "β = 3")
    again = Number("E", "sac", "{}", 0, "return", "", "", 1.0)  # the run of a seed, made twice
    (over,) = means([again, again._replace(value=3.0), again._replace(seed=1, value=5.0)])
    assert (over.seeds, over.mean) == (2, 4.0)


def test_critics_are_averaged_over_the_last_lines_of_metrics(runs):
    lines = [{"env_steps": k, "critic/value": 10.0 * k, "critic/disagreement": 1.0 * k} for k in range(1, 13)]
    lines.append({"env_steps": 13, "critic/value": None, "critic/disagreement": 1.0})
    text = "".join(json.dumps(line) + "\n" for line in lines) + '{"env_steps": 14, "critic'  # being written
    (runs[0] / "metrics.jsonl").write_text(text)
    (found,) = measured.critics(seeds_of(runs[0])[0])
    assert found[-3:] == (12, 80.0, 8.0)  # of lines 4 to 13, the last of which has no value
    (runs[1] / "metrics.jsonl").write_text('{"env_steps": 1}\n[2]\n')
    with pytest.raises(RejectedInput, match="not a JSON object"):
        measured.critics(seeds_of(runs[1])[0])
    assert measured.critics(seeds_of(runs[2])[0]) == []


@pytest.mark.long
def test_runs_are_added_to_those_that_were_merged_before(runs, tmp_path):
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
    with pytest.raises(RejectedInput, match=r"gap\.csv cannot be read as"):
        across_runs.write([some], then)


def test_tables_of_inspections_of_before_are_read(runs, tmp_path):
    inspect(runs[0], [0.0, 1.0], -4.0)
    before = ROOT / "results/halfcheetah_chain"
    across_runs.write([before, runs[0]], tmp_path)
    for name in ("calibration", "gap", "improvement", "improvement_tests", "staleness", "transfer"):
        with (tmp_path / f"{name}.csv").open(newline="") as file:
            head, *found = csv.reader(file)
        with (before / f"{name}.csv").open(newline="") as file:
            old_head, *old = csv.reader(file)
        assert head == ["settings" if column == "changes" else column for column in old_head]
        assert [row[:2] + row[3:] for row in found[: len(old)]] == [row[:2] + row[3:] for row in old]
        assert json.loads(found[0][2])["changes"] == {
            **{"act_iterations": 5, "direct_start": False},
            **{"restart_probability": 0.25, "warmup_steps": 10000},
        }
