"""Runs of seconds: what they leave behind, how many updates they make, and what they refuse."""

import jax
import numpy as np
import pytest
from child import SMALL, Notes, config, digest, metrics, only_run, table, train, without_times

from estep.core.types import Spec
from estep.envs.gymnasium import make
from estep.errors import UsageError
from estep.policy.actor import key_of
from estep.runs import checkpoint
from estep.runs.folder import RunFolder
from estep.settings import presets
from estep.settings.run import RunConfig
from estep.training import update
from estep.training.trainer import Trainer
from estep.training.update import improve, init


@pytest.fixture(scope="module", params=["sac", pytest.param("iterative-sac", marks=pytest.mark.long)])
def finished(request, tmp_path_factory):
    """A small run of each row: its result and what it told."""
    notes = Notes()
    out = tmp_path_factory.mktemp("runs")
    return train(out, request.param, report=notes), notes, out, request.param


def test_a_run_leaves_a_complete_folder(finished):
    result, _, out, algorithm = finished
    folder = result.run_dir
    assert folder == only_run(out)
    assert folder.parent == out / algorithm / "Pendulum-v1"
    assert (folder.parent / "latest").read_text() == folder.name + "\n"
    wanted = {"run.json", "config.json", "config.diff.json", "metrics.jsonl", "eval.csv", "episodes.csv", "tb"}
    assert wanted | {"checkpoints", "best", "latest"} <= {path.name for path in folder.iterdir()}
    assert list((folder / "tb").glob("events.*"))
    assert checkpoint.locate(folder, "latest").name == "step_120"
    assert checkpoint.locate(folder, "best").name in {"step_60", "step_120"}
    assert all(reason is None for _, reason in checkpoint.verify(folder))


def test_run_json_holds_the_result(finished):
    result, _, _, _ = finished
    record = RunFolder.open(result.run_dir).read_run()
    assert (record["status"], record["exit_code"], record["error"]) == ("done", 0, None)
    assert record["command"] == ["test"]
    assert record["ended"] >= record["started"]
    assert record["result"] == {name: getattr(result, name) for name in result._fields[2:]}
    assert (result.status, result.env_steps, result.eval_episodes) == ("done", 120, 2)
    assert result.wall_s > 0
    assert result.env_steps_per_s == pytest.approx(120 / result.wall_s, rel=0.05)


def test_updates_are_what_the_ratio_asks(finished):
    assert finished[0].updates == 80


def test_config_json_names_every_field_and_the_differences(finished):
    result, _, _, algorithm = finished
    folder = RunFolder.open(result.run_dir)
    found, diff = folder.read_config(), folder.read_diff()
    assert found["algorithm"]["name"] == algorithm
    assert found["algorithm"]["hidden_sizes"] == diff["hidden_sizes"] == [16, 16]
    assert found["env"] == {"id": "Pendulum-v1", "by_id": True}
    assert found["run"] == {**vars(config()), "reward_scale": []}
    assert "seed" not in diff
    assert diff["batch_size"] == 32


def test_every_line_of_metrics_counts_and_marks_its_clocks(finished):
    lines = metrics(finished[0].run_dir)
    assert [line["env_steps"] for line in lines] == [20, 40, 60, 80, 100, 120]
    assert [line["updates"] for line in lines] == [0, 0, 20, 40, 60, 80]
    for line in lines:
        assert {"time/act_s", "time/env_s", "time/sample_s", "time/update_s", "wall_s"} <= set(line)
    timeless = without_times(lines[-1])
    assert not [name for name in timeless if "time" in name or "wall" in name or "second" in name]
    assert {"e/value", "critic/loss", "m/alpha", "skipped", "data/replay", "data/bad"} <= set(timeless)
    assert 0.0 <= timeless["data/at_bounds"] <= 1.0
    assert "critic/loss" not in lines[1]


def test_iterative_inference_tells_its_improvement(finished):
    result, notes, _, algorithm = finished
    told = "e/improvement_2" in metrics(result.run_dir)[-1]
    assert told == (algorithm == "iterative-sac")
    assert any("e/improvement" in record for record in notes.records) == told


def test_evaluations_and_progress_are_told(finished):
    result, notes, _, _ = finished
    rows = table(result.run_dir, "eval.csv")
    assert [(row["env_steps"], row["updates"], row["episodes"]) for row in rows] == [
        ("60", "20", "2"),
        ("120", "80", "2"),
    ]
    assert float(rows[-1]["mean"]) == result.eval_mean
    assert float(rows[0]["min"]) <= float(rows[0]["mean"]) <= float(rows[0]["max"])
    assert notes.said("compiling the update")
    assert notes.said("compiled the update in")
    assert sum("compiling" in note for note in notes.notes) == 3
    assert all(record["env_steps"] <= record["steps"] == 120 for record in notes.records)


def test_no_step_is_saved_twice(tmp_path, monkeypatch):
    """Where an evaluation is the best so far, a checkpoint is due, and a stop is asked for."""
    saved, save = [], checkpoint.save
    monkeypatch.setattr(checkpoint, "save", lambda *given: saved.append(given[1]) or save(*given))
    result = train(tmp_path, stop=lambda: len(saved) == 2, warmup_steps=200, eval_every=20, checkpoint_every=20)
    assert (result.status, saved) == ("stopped", [20, 40])


def test_a_seed_repeats_a_run_and_another_does_not(finished, tmp_path):
    result, _, _, algorithm = finished
    if algorithm != "sac":
        pytest.skip("one row is enough")
    again = train(tmp_path / "again", seed=0).run_dir
    other = train(tmp_path / "other", seed=1).run_dir
    assert digest(again) == digest(result.run_dir)
    for part in ("params", "env", "replay"):
        assert digest(other, part) != digest(again, part)
    assert table(other, "eval.csv")[0]["mean"] != table(again, "eval.csv")[0]["mean"]


@pytest.mark.parametrize(
    ("changes", "env_steps", "updates"),
    [
        ({"num_envs": 3}, 120, 80),
        ({"num_envs": 3, "steps": 121}, 123, 80),
        ({"updates_per_step": 0.5}, 120, 40),
        ({"updates_per_step": 0.55, "steps": 121}, 121, 44),
        ({"updates_per_step": 2.0}, 120, 160),
        ({"steps": 121}, 121, 80),
        ({"warmup_steps": 200}, 120, 0),
        ({"warmup_steps": 0, "steps": 40}, 40, 40),
        ({"steps": 1, "num_envs": 3, "warmup_steps": 5}, 3, 0),
        ({"normalise": True}, 120, 80),
    ],
)
def test_updates_follow_the_ratio_less_an_unfilled_block(tmp_path, changes, env_steps, updates):
    result = train(tmp_path, **{"eval_every": 0, "eval_episodes": 1, **changes})
    assert (result.status, result.env_steps, result.updates) == ("done", env_steps, updates)
    assert result.eval_episodes == 1
    assert metrics(result.run_dir)[-1]["env_steps"] == env_steps


def test_a_block_of_one_alternates_strictly(tmp_path, monkeypatch):
    numbers = []

    def counting(agent, batches, key, number, scaling):
        numbers.append(int(number))
        assert batches.obs.shape == (1, 32, 1, 3)
        return agent, ((), {"critic/loss": np.zeros(1, np.float32), "skipped": np.zeros(1, np.float32)})

    monkeypatch.setattr(update, "improve", counting)
    monkeypatch.setattr(update, "PROBED", 0)
    result = train(tmp_path, updates_per_call=1, steps=60, eval_every=0, log_every=1)
    assert numbers == list(range(20))
    assert [line["updates"] for line in metrics(result.run_dir)] == [0] * 40 + list(range(1, 21))


@pytest.mark.parametrize(
    ("rollout", "changes", "why"),
    [
        (0, {"steps": 400, "warmup_steps": 500}, "all 400 steps are random, since --warmup-steps is 500"),
        (0, {"steps": 507, "warmup_steps": 500}, "7 updates are due (--updates-per-step), and 8 are made at a time"),
        (0, {"steps": 600, "warmup_steps": 500, "updates_per_step": 0.01}, "1 updates are due"),
        (0, {"steps": 508, "warmup_steps": 500}, ""),
        (512, {"steps": 511}, "the first update comes after 512 steps (--rollout), and --steps is 511"),
        (512, {"steps": 512}, ""),
    ],
)
def test_a_run_that_is_too_short_to_learn_says_so(rollout, changes, why):
    said = []
    update.note_schedule(RunConfig(**changes), rollout, 8, said.append)
    assert (len(said), why in "".join(said)) == (bool(why), True)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"stop_at": -200.0, "eval_every": 0}, "the first is at the end (--eval-every 0)"),
        ({"stop_at": -200.0, "eval_every": 6_000}, "the first is at the end (--eval-every 6,000)"),
        ({"stop_at": -200.0, "eval_every": 5_999}, ""),
        ({"record_every": 6_001}, "no video is recorded: --record-every is 6,001, and --steps is 6,000"),
        ({"record_every": 6_000, "eval_every": 0}, ""),
    ],
)
def test_what_comes_too_late_in_a_run_is_said(changes, why):
    said = []
    update.note_schedule(RunConfig(steps=6_000, **changes), 0, 8, said.append)
    assert (len(said), why in "".join(said)) == (bool(why), True)


def test_settings_of_replay_are_named_where_there_is_none():
    said, short = [], presets.changes(None, {"steps": 600})
    update.note_schedule(RunConfig(**short), 512, 8, said.append)
    assert said == []
    update.note_schedule(RunConfig(**short, replay_size=50, updates_per_step=2.0), 512, 8, said.append)
    assert ["no --replay-size and no --updates-per-step" in line for line in said] == [True]


def test_replay_forgets_the_oldest_steps(tmp_path):
    notes = Notes()
    result = train(tmp_path, warmup_steps=200, replay_size=50, report=notes)
    assert sum("this run learns nothing: all 120 steps are random" in note for note in notes.notes) == 1
    assert [line["data/replay"] for line in metrics(result.run_dir)] == [20, 40, 50, 50, 50, 50]


def test_episodes_are_listed(tmp_path):
    result = train(tmp_path, warmup_steps=900, steps=820, num_envs=2, log_every=200, eval_every=0, checkpoint_every=0)
    rows = table(result.run_dir, "episodes.csv")
    assert [(row["env_steps"], row["env"], row["episode"], row["length"]) for row in rows] == [
        (steps, env, episode, "200") for steps, episode in (("400", "0"), ("800", "1")) for env in ("0", "1")
    ]
    last = metrics(result.run_dir)[-1]
    assert last["episodes"] == 4
    assert last["return"] == pytest.approx(sum(float(row["return"]) for row in rows) / 4)


@pytest.mark.parametrize(
    ("env", "changes", "says"),
    [
        ("Pendulum-v11", {}, "Did you mean Pendulum-v1"),
        ("no_such_module_of_estep:Pendulum-v1", {}, "no_such_module_of_estep"),
        ("Pendulum-v1", {"replay_size": 10**13, "steps": 10**13}, "Give replay_size"),
        ("Pendulum-v1", {"replay_size": 10**16, "steps": 10}, "replay_size"),
        ("Pendulum-v1", {"replay_size": 2, "num_envs": 3}, "at least 3"),
    ],
)
def test_a_usage_error_creates_nothing(tmp_path, env, changes, says):
    with pytest.raises(UsageError) as raised:
        train(tmp_path / "out", env=env, **changes)
    assert says in str(raised.value)
    assert raised.value.exit_code == 2
    assert not (tmp_path / "out").exists()


def test_warm_up_and_replay_draw_from_different_streams(tmp_path):
    """Equal keys would tie the batch of update n to the actions of step n."""
    one = Trainer(SMALL["sac"], make("Pendulum-v1", timeout=0.0), config(), Notes().note)
    one.begin()
    u, action = one.explore(7)
    generator = np.random.Generator(np.random.Philox(key=np.array([0, 7], np.uint64)))
    assert u != np.float32(0.5 * generator.logistic(size=(1, 1)))
    np.testing.assert_allclose(np.tanh(u), action)
    many = np.array([one.explore(step)[1].item() for step in range(4000)])
    assert abs(many.mean()) < 0.03  # uniform on [-1, 1]
    assert many.var() == pytest.approx(1 / 3, rel=0.05)


@pytest.mark.parametrize("algorithm", SMALL)
def test_a_fresh_agent_has_no_weak_types(algorithm):
    """An update would drop them, and the second one would be compiled anew."""
    for leaf in jax.tree.leaves(init(SMALL[algorithm], Spec(3, 1), key_of(0, 0))):
        assert not leaf.weak_type


def test_other_seeds_and_lengths_share_the_compiled_update(finished, tmp_path):
    before = improve._cache_size()
    train(tmp_path, finished[3], steps=60, eval_every=0, seed=3)
    assert improve._cache_size() == before
