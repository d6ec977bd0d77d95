"""A comparison: returns, areas and differences by hand, tasks and scores, and a page that nothing breaks."""

import json
import math
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from report_pages import HOSTILE, Page, data_of
from scipy import stats

from estep.comparing import comparison, figures, page, reference, scores, sources, summary, writing
from estep.comparing.reference import Line, Reference
from estep.comparing.sources import Found
from estep.errors import RejectedInput, UsageError
from estep.instruments.interval import difference, interquartile, interval
from estep.plots.learning_curves import Point, seeds_label
from estep.runs import tables
from estep.runs.folder import RunFolder


def points(algorithm, seed, means, every=10, settings="{}", env="Some-v0"):
    return [Point(env, algorithm, settings, seed, every * (i + 1), i, mean, 0.0, 3) for i, mean in enumerate(means)]


def found(*runs):
    return Found([point for run in runs for point in run], [])


def one(*runs, at="end"):
    (task,) = scores.tasks(found(*runs).points, at)
    return task


def test_curves_are_compared_where_the_shortest_run_ends():
    task = one(points("a", 0, [1.0, 2.0, 3.0]), points("a", 1, [5.0, 7.0]), points("b", 0, [1.0, 1.0, 4.0]))
    assert (task.at, task.shortest, task.longest) == (20, 20, 30)
    assert task.returns("a").tolist() == [2.0, 7.0]
    assert task.returns("b").tolist() == [1.0]
    assert task.areas("a").tolist() == [1.5, 6.0]
    runs = found(points("a", 0, [1.0, 2.0, 3.0]), points("b", 0, [5.0, 7.0]))
    assert any("ends at 20 steps and the longest at 30: all are compared at 20." in note for note in notes(runs))


def notes(runs, **options):
    return comparison.compare(runs, **options).notes


def test_a_comparison_may_be_made_earlier_and_not_later():
    runs = [points("a", 0, [1.0, 2.0, 3.0]), points("b", 0, [5.0, 7.0, 9.0])]
    assert one(*runs, at="25").returns("b").tolist() == [7.0]  # the last evaluation before
    with pytest.raises(RejectedInput, match="at=40 is after the end of the shortest curve on Some-v0"):
        one(*runs, at="40")
    with pytest.raises(RejectedInput, match="first evaluation at 10 steps"):
        one(*runs, at="5")


def test_a_seed_that_reached_its_goal_keeps_its_return_and_does_not_end_the_others():
    goal = '{"steps": 40, "stop_at": 5.0}'
    task = one(points("a", 0, [1.0, 6.0], settings=goal), points("b", 0, [0.0, 0.0, 0.0, 2.0], settings=goal))
    assert (task.at, task.returns("a").tolist(), task.returns("b").tolist()) == (40, [6.0], [2.0])
    assert task.areas("a").tolist() == [(3.5 * 10 + 6.0 * 20) / 30]


def rows_of(section):
    return {(row.curve, row.statistic): row for row in section.rows}


def test_each_statistic_of_one_task_has_its_interval_and_its_seeds():
    rng = np.random.default_rng(0)
    ends = rng.normal(size=7)
    section = summary.of_task(
        one(*(points("a", seed, [0.0, end]) for seed, end in enumerate(ends)), points("b", 0, [1, 2.0]))
    )
    rows = rows_of(section)
    assert rows["a", "mean"][3:6] == interval(ends)
    assert rows["a", "interquartile mean"][3:6] == interquartile(ends)
    assert rows["a", "median of the seeds"].value == np.median(ends)
    assert rows["a", "mean over all steps"].value == pytest.approx(ends.mean() / 2)
    assert {(row.seeds, row.env_steps) for row in section.rows if row.curve == "a"} == {(7, 20)}
    assert math.isnan(rows["b", "mean"].low)  # one seed
    (pair,) = section.pairs
    assert pair.sentence == "a and b cannot be compared with one seed: there is no interval."
    assert 0 < pair.chance_high - pair.chance_low < 1
    assert (pair.first_seeds, pair.second_seeds) == (7, 1)
    shares = [place for place in section.profile if place.curve == "a"]
    assert [shares[0].value, shares[-1].value] == [pytest.approx(np.mean(ends > shares[0].x)), 0.0]
    assert all(place.low <= place.value <= place.high for place in shares)


def test_the_interval_of_a_difference_is_that_of_welch():
    rng = np.random.default_rng(0)
    a, b = rng.normal(3.0, 1.0, 7), rng.normal(1.0, 4.0, 12)
    gap, want = difference(a, b), stats.ttest_ind(a, b, equal_var=False).confidence_interval(0.95)
    np.testing.assert_allclose([gap.low, gap.high], [want.low, want.high], rtol=1e-10)
    assert gap.mean == pytest.approx(a.mean() - b.mean())
    assert np.isnan(difference([1.0], b).low)


def test_a_seed_without_a_finite_return_counts_as_below_all_others():
    runs = [points("a", seed, [1.0, float("nan") if seed == 11 else 2.0]) for seed in range(12)]
    runs += [points("b", seed, [1.0, 1.0 + seed]) for seed in range(3)]
    compared = comparison.compare(found(*runs))
    (section,) = compared.sections
    rows = rows_of(section)
    assert math.isnan(rows["a", "mean"].value)
    assert math.isnan(rows["a", "mean over all steps"].value)
    assert (rows["a", "median of the seeds"].value, rows["a", "interquartile mean"].value) == (2.0, 2.0)
    assert rows["a", "interquartile mean"].seeds == 12
    (pair,) = section.pairs
    assert pair.chance == pytest.approx((11 * 1.5 + 0) / 36)  # each above one of three, equal to another
    assert pair.sentence.startswith("A seed failed, so a and b have no interval of their difference. ")
    assert {place.value for place in section.profile if place.curve == "a" and place.x < 2.0} == {11 / 12}
    assert "a, seed 11 failed on Some-v0. It counts as below every other seed, so its curve has no mean there." in (
        compared.notes
    )
    last = compared.tasks[0].drawn["a"][-1]
    assert (last.middle, last.failed) == (2.0, 1)  # of twelve the lowest three do not count
    assert seeds_label(last) == "n = 12, 1 failed"


RELEASE = Path(__file__).parents[1] / "releases" / "0.1.0" / "iterative-sac-Pendulum-v1"
HEAD = "env_steps", "updates", "mean", "std", "episodes"


def run_folder(path, seed, lines, ending):
    """A run by its files alone."""
    shutil.copytree(RELEASE, path, ignore=shutil.ignore_patterns("checkpoints"))
    folder = RunFolder.open(path)
    config = folder.read_config()
    config["run"]["seed"] = seed
    folder.write_config(config, {})
    folder.write_run({**folder.read_run(), **ending})
    tables.write(path / "eval.csv", HEAD, lines)
    return path


def lines_to(end):
    return [(step, step, float(step), 1.0, 3) for step in range(10, end + 1, 10)]


@pytest.mark.parametrize("ending", ["halt", "stop", "split"])
def test_a_run_that_failed_does_not_shorten_the_comparison(ending, tmp_path):
    halted = {"status": "error", "exit_code": 4, "result": {"env_steps": 25}}
    endings = {"halt": halted, "stop": {**halted, "exit_code": 6}}
    endings["split"] = {
        "status": "stopped",
        "exit_code": None,
        "result": None,
        "member": 1,
        "error": "20 skips",
    }
    runs = [run_folder(tmp_path / f"run{seed}", seed, lines_to(50), {"status": "done"}) for seed in range(2)]
    runs.append(run_folder(tmp_path / "run2", 2, lines_to(20), endings[ending]))
    (task,) = scores.tasks(sources.read(runs).points)
    if ending == "stop":  # the disk was full: the run says nothing of its algorithm
        assert task.at == 20
        return
    (name,) = task.runs
    assert task.at == 50
    np.testing.assert_array_equal(task.returns(name), [50.0, 50.0, np.nan])
    assert [(row.env_steps, row.failed) for row in task.drawn[name]] == [(10, 0), (20, 0), (30, 1), (40, 1), (50, 1)]
    writing.write(comparison.compare(sources.read(runs)), sources.read(runs).points, tmp_path)
    (again,) = scores.tasks(sources.read([tmp_path / "evaluations.csv"]).points)
    assert again.at == 50
    assert again.returns(name).tolist()[:2] == [50.0, 50.0]


def test_a_frozen_seed_of_a_population_counts_as_failed(tmp_path):
    failed = {"1": {"seed": 6, "env_steps": 25, "why": "x"}, "2": {"seed": 7, "env_steps": 5, "why": "x"}}
    path = run_folder(tmp_path / "run", 5, [], {"status": "done", "failed": failed})
    for member, end in enumerate((50, 20, 0)):
        (path / "members" / f"{member:04d}").mkdir(parents=True)
        if end:
            tables.write(path / "members" / f"{member:04d}" / "eval.csv", HEAD, lines_to(end))
    (path / "eval.csv").unlink()
    (task,) = scores.tasks(sources.read([path]).points)
    (name,) = task.runs
    assert task.at == 50
    returns = {run.seed: (run.failed, run.at(50)) for run in task.runs[name]}
    assert returns[5] == (False, 50.0)
    assert returns[6][0]
    assert returns[7][0]
    assert sum(math.isnan(value) for _, value in returns.values()) == 2
    assert any(note.startswith(f"{name}, seed 6 failed on ") for note in notes(sources.read([path])))


TWO = [
    points(name, seed, [0.0, base + seed], env=env)
    for env in ("X-v0", "Y-v0")
    for name, base in (("a", 50.0), ("b", 10.0))
    for seed in range(3)
]
HUNDRED = Reference("mine.csv", (Line("X-v0", 0.0, 100.0), Line("Y*", 0.0, 50.0)))


def test_scores_over_tasks_are_returns_between_the_low_and_the_high_one():
    over = comparison.compare(found(*TWO), reference=HUNDRED).over
    rows = rows_of(over)
    assert rows["a", "mean"].value == pytest.approx((0.51 + 1.02) / 2)
    assert rows["a", "median over tasks"].value == pytest.approx((0.51 + 1.02) / 2)
    assert rows["a", "optimality gap"].value == pytest.approx(0.49 / 2)
    assert rows["b", "interquartile mean"].value == pytest.approx(np.mean([0.11, 0.12, 0.20, 0.22]))
    assert {(row.tasks, row.seeds) for row in over.rows} == {(2, 3)}
    assert all(row.low <= row.value <= row.high for row in over.rows)
    (pair,) = over.pairs
    assert pair.sentence == "a has a higher score than b."
    assert pair.chance == 1.0
    assert [place.x for place in over.efficiency if place.curve == "a"] == [10, 20]
    with pytest.raises(RejectedInput, match=r"mine\.csv has no line for X-v0"):
        comparison.compare(found(*TWO), reference=HUNDRED._replace(lines=HUNDRED.lines[1:]))


def test_without_a_reference_tasks_are_not_averaged():
    over = comparison.compare(found(*TWO)).over
    assert (over.rows, over.profile, over.efficiency) == ([], [], [])
    (pair,) = over.pairs
    assert pair.sentence == "On a task, a seed of a is more often above one of b than below."
    assert (pair.chance, math.isnan(pair.difference)) == (1.0, True)
    assert comparison.compare(found(*TWO[:6])).over is None  # one task


def test_one_task_with_a_reference_has_the_intervals_of_one_task():
    over = comparison.compare(found(*TWO[:6]), reference=HUNDRED).over
    assert rows_of(over)["a", "mean"][3:6] == pytest.approx(interval([0.5, 0.51, 0.52]))
    assert rows_of(over)["a", "optimality gap"][3:6] == pytest.approx(interval([0.5, 0.49, 0.48]))


def test_an_algorithm_is_one_curve_over_tasks_whatever_its_presets_are():
    def settings(beta):
        return json.dumps({"beta": beta})

    runs = [
        points(name, seed, [1.0, 2.0], env=env, settings=settings(beta))
        for env, beta, other in (("X-v0", 1.0, 5.0), ("Y-v0", 2.0, 6.0))
        for name, beta in (("a", beta), ("b", other))
        for seed in range(2)
    ]
    assert [(pair.first, pair.second) for pair in comparison.compare(found(*runs)).over.pairs] == [("a", "b")]
    runs = [points("a", 0, [1.0], settings=settings(beta)) for beta in (0.30000001, 0.30000002, 1.0)]
    assert list(one(*runs).runs) == ["a (beta 0.3)", "a (beta 0.3) #2", "a (beta 1)"]


def test_a_curve_has_one_label_on_all_tasks_although_one_task_has_more_curves():
    runs = [
        points("a", seed, [1.0, 2.0], env=env, settings=json.dumps({"beta": beta, "tau": tau}))
        for env, beta, tau in (("X-v0", 1, 1), ("X-v0", 1, 2), ("X-v0", 2, 1), ("Y-v0", 1, 1), ("Y-v0", 2, 1))
        for seed in range(2)
    ]
    pair = "a (beta 1, tau 1)", "a (beta 2, tau 1)"
    compared = scores.tasks(found(*runs).points)
    assert [tuple(task.runs) for task in compared] == [(pair[0], "a (beta 1, tau 2)", pair[1]), pair]
    assert [(one.first, one.second) for one in comparison.compare(found(*runs)).over.pairs] == [pair]


def begun(seed, freeze_prior="", settings=(), **starts):
    values = {"beta": 1, "steps": 100, "freeze_prior": freeze_prior, **dict(settings), **starts}
    return points("a", seed, [1.0, 2.0], settings=json.dumps(values))


def test_runs_that_each_begin_with_a_run_of_their_own_share_a_curve():
    own = [begun(seed, start_from=f"runs/a/s{seed}", freeze_prior="one") for seed in range(3)]
    fresh = [begun(seed, start_from="", freeze_prior="one") for seed in range(3)]
    task = one(*own, *fresh)
    assert {name: len(runs) for name, runs in task.runs.items()} == {
        "a (start_from one of each seed)": 3,
        "a (no start_from)": 3,
    }
    assert [row.seeds for rows in task.drawn.values() for row in rows] == [3, 3, 3, 3]
    assert comparison.check(found(*own, *fresh), by_task=False).points == found(*own, *fresh).points  # as recorded
    with pytest.raises(RejectedInput, match="differ in the seed alone"):
        comparison.check(found(*own), by_task=False)
    both = [begun(seed, f"low/{seed}", start_from=f"high/{seed}") for seed in range(2)]
    assert [len(runs) for runs in one(*both).runs.values()] == [2]
    betas = [begun(seed, f"low/{seed}/{beta}", {"beta": beta}) for seed in range(2) for beta in (1, 2)]
    assert {name: len(runs) for name, runs in one(*betas).runs.items()} == {"a (beta 1)": 2, "a (beta 2)": 2}


def test_a_run_with_which_several_seeds_begin_is_a_curve():
    several = [begun(seed, start_from=name) for name in ("long", "short") for seed in range(2)]
    assert list(one(*several).runs) == ["a (start_from long)", "a (start_from short)"]
    assert len(one(begun(0, start_from="long"), begun(0, start_from="short")).runs) == 2
    assert len(one(*several[:3]).runs) == 2


def test_the_mean_over_the_tasks_of_a_run_is_no_task_of_its_own():
    runs = [
        points(name, seed, [1.0, 2.0], env=env)
        for env in ("X+Y", "X+Y: X", "X+Y: Y")
        for name in ("a", "b")
        for seed in range(2)
    ]
    assert [task.name for task in scores.single_tasks(scores.tasks(found(*runs).points))] == ["X+Y: X", "X+Y: Y"]
    kept = comparison.check(found(*runs), by_task=False)
    assert {point.env for point in kept.points} == {"X+Y"}


def test_what_is_no_comparison_is_refused():
    with pytest.raises(RejectedInput, match="different environments: X-v0, Y-v0") as error:
        comparison.check(found(*TWO), by_task=False)
    assert "--by task" in error.value.fix
    assert len(comparison.check(found(*TWO), by_task=True).points) == len(found(*TWO).points)
    with pytest.raises(RejectedInput, match="no two curves"):
        comparison.check(found(points("a", 0, [1.0]), points("a", 1, [1.0])), by_task=False)


def test_of_many_curves_the_best_is_compared_with_each_other_one():
    runs = [points(f"a{i}", seed, [1.0, float(i + seed)]) for i in range(summary.MOST + 2) for seed in range(2)]
    compared = comparison.compare(found(*runs))
    (section,) = compared.sections
    assert {pair.first for pair in section.pairs} == {f"a{summary.MOST + 1}"}
    assert len(section.pairs) == summary.MOST + 1
    assert any("only the best one" in note for note in compared.notes)


def test_a_reference_is_a_table_or_a_name(tmp_path):
    ends = reference.read("d4rl").scores("HalfCheetah-v5", np.array([-280.178953, 12135.0]))
    assert ends.tolist() == [0.0, 1.0]
    with pytest.raises(RejectedInput, match="d4rl has no line for Swimmer-v5"):
        reference.read("d4rl").scores("Swimmer-v5", ends)
    named = [point._replace(env="Hopper-v5") for run in TWO[:6] for point in run]
    assert any("Fu et al. 2020" in note for note in notes(found(named), reference=reference.read("d4rl")))
    assert reference.read("control-suite").scores("dm_control/walker-run-v0", np.array([500.0])).tolist() == [0.5]
    path = tmp_path / "mine.csv"
    path.write_text("task,low,high\nX-v0,-10,10\n")
    assert reference.read(str(path)).scores("X-v0", np.array([0.0, 10.0])).tolist() == [0.5, 1.0]
    with pytest.raises(UsageError, match="no reference 'control-suit'"):
        reference.read("control-suit")
    for text, why in (("X-v0,1,1", "differ for X-v0"), ("X-v0,nan,1", "differ for X-v0"), ("", "has no line")):
        path.write_text(f"task,low,high\n{text}\n")
        with pytest.raises(RejectedInput, match=why):
            reference.read(str(path))
    path.write_text("env,low\nX,1\n")
    with pytest.raises(RejectedInput, match="cannot be read as task, low, high"):
        reference.read(str(path))


def test_the_page_holds_the_curves_and_nothing_breaks_it(tmp_path):
    written = HOSTILE.replace("\u202e", "\\u202e")  # a mark that would turn a sentence round
    runs = found(points(HOSTILE, 0, [1.0, float("nan"), 3.0]), points("b", 0, [1.0, 2.0, 9.0]))
    text = page.write(comparison.compare(runs), tmp_path / "cmp.html").read_text()
    parsed = Page(text)
    assert not parsed.open
    assert not parsed.handlers
    assert parsed.tags.count("script") == 2
    charts = data_of(text)["charts"]
    assert [one["curve"] for one in charts["env0"]] == [[[10, 20, 30], [1, None, 3]], [[10, 20, 30], [1, 2, 9]]]
    assert [one["name"] for one in charts["profile0"]] == [f"{written}, n = 1", "b, n = 1"]
    assert "cannot be compared with one seed" in text
    assert "fewer than 5 seeds" in text


@pytest.mark.long
def test_figures_have_their_seeds_in_every_label(tmp_path):
    compared = comparison.compare(found(*TWO), reference=HUNDRED)
    files = {path.name for path in figures.draw(compared, tmp_path)}
    names = {"curves_X-v0", "profile_tasks", "efficiency_tasks", "statistics_tasks", "improvement_chance_tasks"}
    assert {f"{name}.{kind}" for name in names for kind in ("png", "svg")} <= files
    for name in names:
        assert "n = 3" in (tmp_path / f"{name}.svg").read_text()  # in a comment beside each text


@pytest.mark.long
def test_two_hundred_run_folders_are_compared_in_ten_seconds(tmp_path):
    for seed in range(200):
        lines = [(10 * step, step, math.sin(seed + step), 1.0, 3) for step in range(1, 101)]
        run_folder(tmp_path / "runs" / f"run{seed}", seed, lines, {"status": "done"})
        folder = RunFolder.open(tmp_path / "runs" / f"run{seed}")
        config = folder.read_config()
        config["algorithm"]["tau"] = 0.001 * (1 + seed % 40)
        folder.write_config(config, {})
    begin = time.process_time()
    read = comparison.check(sources.read([tmp_path / "runs"]), False)
    path = page.write(comparison.compare(read), tmp_path / "cmp.html")
    assert time.process_time() - begin < 10.0
    assert len(data_of(path.read_text())["charts"]["env0"]) == 40


def test_tables_and_page_have_every_statistic(tmp_path):
    compared = comparison.compare(found(*TWO), reference=HUNDRED)
    tables = {path.name: path.read_text() for path in writing.write(compared, found(*TWO).points, tmp_path)}
    assert set(tables) == {
        *("evaluations.csv", "curves.csv", "statistics.csv", "pairs.csv", "profiles.csv", "efficiency.csv"),
    }
    assert "all tasks,a,optimality gap," in tables["statistics.csv"]
    text = page.write(compared, tmp_path / "cmp.html").read_text()
    assert set(data_of(text)["charts"]) == {"efficiency", "profile", "env0", "profile0", "env1", "profile1"}
    assert not Page(text).open


def test_a_run_of_several_tasks_that_is_given_twice_is_one_run(tmp_path):
    envs = ("a+b", "a+b: a", "a+b: b")
    rows = [row for env in envs for row in points("sac", "0", [1.0, 2.0], env=env)]
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        tables.write(tmp_path / name / "evaluations.csv", Point._fields, rows)
    found = sources.read([tmp_path / "one", tmp_path / "two"])
    assert len(found.points) == len(rows)
    assert found.notes == ["1 run has the seed and the settings of another one. The last counts."]
