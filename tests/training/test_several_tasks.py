"""A run with several tasks: what it writes, that it resumes to the bit, and that the order of tasks means nothing."""

import csv
import json

import gymnasium
import numpy as np
import pytest
from child import Notes, metrics, outcome, records, resume, table, train

import estep
from estep.algorithms import SAC, Distral, Hierarchical
from estep.core.keys import make_key
from estep.core.types import Spec
from estep.envs.tasks.sources import read_envs
from estep.errors import UsageError
from estep.inference.named import InferenceSettings, chosen
from estep.instruments.inspection import Options, inspect_run
from estep.plots import learning_curves
from estep.plots.curves import draw_run
from estep.policy.actor import Actor
from estep.policy.recorded import EvalSettings, evaluate_run
from estep.runs import config_file
from estep.runs.folder import RunFolder
from estep.training.of_tasks import OfTasks, SpreadWatch
from estep.training.scale import fixed_price, reward_scale
from estep.training.trainer import Trainer
from estep.training.update import init

MOON = "moon $1=Pendulum-v1?g=1.6&max_episode_steps=20"
EARTH = "Pendulum-v1?max_episode_steps=20"
NAMES = [EARTH, "moon $1"]
MIXED = {"normalise": True, "steps": 160, "warmup_steps": 50, "eval_every": 70, "checkpoint_every": 30, "log_every": 50}


def several(out, *given, algorithm="sac", **options):
    return train(out, algorithm, env=read_envs(list(given)), **{**MIXED, **options})


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    notes = Notes()
    return several(tmp_path_factory.mktemp("tasks"), EARTH, MOON, report=notes), notes


@pytest.fixture(scope="module")
def policy(run):
    return estep.load(run[0].run_dir)


def test_the_order_of_the_tasks_changes_nothing(run, tmp_path):
    assert outcome(several(tmp_path, MOON, EARTH).run_dir) == outcome(run[0].run_dir)


def test_an_interrupted_run_goes_on_as_if_it_had_not_been(run, tmp_path):
    left = iter(range(55))
    stopped = several(tmp_path, EARTH, MOON, stop=lambda: next(left, None) is None)
    assert stopped.status == "stopped"
    done = resume(stopped.run_dir)
    assert (done.status, outcome(done.run_dir)) == ("done", outcome(run[0].run_dir))


@pytest.mark.long
def test_a_run_of_two_levels_resumes_to_the_bit_is_evaluated_and_inspected(tmp_path):
    row = Hierarchical(
        hidden_sizes=(8,), latent=2, samples=2, unroll=2, rho=0.5, latent_prior="learned", low_level="own"
    )
    options = {"algorithm": row, "normalise": False}
    whole, left = several(tmp_path / "whole", EARTH, MOON, **options), iter(range(55))
    stopped = several(tmp_path / "cut", EARTH, MOON, stop=lambda: next(left, None) is None, **options)
    assert outcome(resume(stopped.run_dir).run_dir) == outcome(whole.run_dir)
    policy = estep.load(whole.run_dir)
    assert np.isfinite(policy.evaluate(1).mean)
    assert policy.act(np.zeros(3, np.float32), task=NAMES[0]).shape == (1,)
    with pytest.raises(UsageError, match="no other optimiser"):
        chosen("gradient", InferenceSettings())(policy.agent)
    found = inspect_run(whole.run_dir, Options(only=("gap",), task=NAMES[0]))
    assert "no optimum" in found.not_measured["gap"]


@pytest.mark.parametrize("given", [[EARTH, "moon $1=Pendulum-v1?g=2.0"], [EARTH, "b=Pendulum-v1"], EARTH])
def test_another_list_is_refused(run, given):
    with pytest.raises(UsageError, match="This run has the environment") as error:
        resume(run[0].run_dir, env=given, steps=10_000)
    assert MOON in error.value.fix


def test_a_run_with_one_environment_is_no_run_with_two(tmp_path):
    alone = train(tmp_path, warmup_steps=40, steps=40, eval_episodes=0, eval_every=0)
    with pytest.raises(UsageError, match="This run has the environment Pendulum-v1, not"):
        resume(alone.run_dir, env=[EARTH, MOON], steps=100)
    assert "tasks" not in json.loads((alone.run_dir / "config.json").read_text())["env"]
    assert "task" not in (alone.run_dir / "episodes.csv").read_text()


def test_tables_have_a_line_for_each_task_and_one_for_their_mean(run):
    rows = table(run[0].run_dir, "eval.csv")
    assert [row["task"] for row in rows[:3]] == [*NAMES, "all"]
    for i in range(0, len(rows), 3):
        means = [float(row["mean"]) for row in rows[i : i + 3]]
        assert means[2] == pytest.approx((means[0] + means[1]) / 2)
        assert [row["episodes"] for row in rows[i : i + 3]] == ["2", "2", "4"]
    assert run[0].eval_mean == means[2]
    assert {row["task"] for row in table(run[0].run_dir, "episodes.csv")} == set(NAMES)
    last = metrics(run[0].run_dir)[-1]
    assert {f"{name}/{task}" for name in ("e/value", "m/kl", "return") for task in NAMES} <= set(last)


def test_the_folder_keeps_the_list(run):
    folder = RunFolder.open(run[0].run_dir)
    recipe = config_file.decode(folder.read_config())
    assert [tuple(task) for task in recipe.tasks] == [(EARTH, EARTH, True), ("moon $1", MOON.partition("=")[2], True)]
    assert folder.read_run()["tasks"] == {task.name: task.env for task in recipe.tasks}
    assert folder.path.parent.name == "Pendulum-v1-max_episode_steps-20-moon-1"


def test_a_batch_holds_equally_many_of_each_task(run):
    assert any("2 tasks" in note for note in run[1].notes)
    assert not run[1].said("starts differently")


def test_a_policy_acts_and_is_evaluated_in_a_task(policy, run):
    obs = np.array([0.1, 0.2, 0.3])
    acts = [policy.act(obs, task=name) for name in NAMES]
    assert acts[0].shape == (1,)
    assert acts[0] != acts[1]
    assert policy.act(np.stack([obs, obs]), task=NAMES[1]).shape == (2, 1)
    whole = policy.evaluate(2)
    assert list(whole.tasks) == NAMES
    assert whole.mean == pytest.approx(np.mean([one.mean for one in whole.tasks.values()]))
    assert policy.evaluate(2, task=NAMES[1]).returns == pytest.approx(whole.tasks[NAMES[1]].returns, rel=1e-3)
    cli = evaluate_run(run[0].run_dir, settings=EvalSettings(2, task=NAMES[1]), context=estep.policy.job.QUIET)
    assert cli.evaluation.returns == policy.evaluate(2, task=NAMES[1]).returns


@pytest.mark.parametrize("call", ["act", "evaluate"])
def test_a_task_that_is_not_there_is_refused(policy, call):
    arguments = {"act": (np.zeros(3),), "evaluate": (2,)}[call]
    with pytest.raises(UsageError, match="no task 'mars'") as error:
        getattr(policy, call)(*arguments, task="mars")
    assert "moon $1" in error.value.fix
    with pytest.raises(UsageError, match="none of them was named"):
        policy.act(np.zeros(3))


def test_nothing_is_compiled_for_each_task(run, policy):
    assert sum("compiling" in note for note in run[1].notes) == 3  # the update, and to act in two ways
    mode = Actor(policy.agent)._acting.mode
    sizes = []
    for task in NAMES:
        policy.evaluate(1, task=task)
        sizes.append(mode._cache_size())
    assert sizes[0] == sizes[1]


def test_the_one_hot_vector_is_not_normalised(policy):
    mean, scale = policy.scaling
    np.testing.assert_array_equal(mean[3:], 0.0)
    np.testing.assert_array_equal(scale[3:], 1.0)
    assert (np.asarray(scale[:3]) != 1.0).all()


def test_a_saved_policy_knows_its_tasks(policy, tmp_path):
    again = estep.load(policy.save(tmp_path / "saved"))
    assert list(again.tasks) == NAMES
    obs = np.array([0.1, 0.2, 0.3])
    assert again.act(obs, task=NAMES[1]) == policy.act(obs, task=NAMES[1])


@pytest.mark.long
def test_figures_have_a_panel_and_tables_a_name_for_each_task(run):
    assert all((run[0].run_dir / name).is_file() for name in map(str, draw_run(run[0].run_dir).values()))
    found = learning_curves.points(run[0].run_dir)
    env = f"{EARTH}+moon $1"
    assert set(dict.fromkeys(point.env for point in found)) == {env, *(f"{env}: {name}" for name in NAMES)}
    learning_curves.draw(learning_curves.curves(found)[-1:], run[0].run_dir)


def test_an_environment_with_arguments_trains_alone(tmp_path):
    done = train(tmp_path, env=EARTH, warmup_steps=40, steps=40, eval_episodes=1, eval_every=0)
    assert {row["length"] for row in table(done.run_dir, "episodes.csv")} == {"20"}
    assert resume(done.run_dir).eval_mean == done.eval_mean
    assert estep.load(done.run_dir).evaluate(1).lengths == [20]


def trainer_of(*given, **options):
    from child import SMALL, config

    from estep.policy.environments import make_env
    from estep.policy.job import QUIET

    settings = config(**options)
    env = make_env(read_envs(list(given)), settings, QUIET, 0)
    return Trainer(SMALL["sac"], env, settings, print)


@pytest.mark.long
def test_the_batch_is_rounded_down_to_equal_parts():
    trainer = trainer_of(EARTH, MOON, "z=Pendulum-v1", batch_size=32)
    assert trainer.sequences == 30
    trainer.begin()
    for _ in range(4):
        trainer.step()
    task = trainer.replay.read(trainer.rows()).obs[..., 3:]
    np.testing.assert_array_equal(task.sum((1, 2)), np.full((4, 3), 10.0))


def test_learned_rewards_are_scaled_by_task_and_returns_are_not():
    trainer = trainer_of(EARTH, MOON, reward_scale=(2.0, 0.0625))
    plain = trainer_of(EARTH, MOON)
    for one in (trainer, plain):
        one.begin()
        one.step()
    rewards = [one.replay.read(one.replay.newest(1, 1)).reward[:, 0] for one in (trainer, plain)]
    np.testing.assert_allclose(rewards[0], rewards[1] * [2.0, 0.0625])
    with pytest.raises(UsageError, match="3 factors, and there are 2 tasks"):
        reward_scale((1.0, 2.0, 3.0), plain.env)


def test_rewards_of_unequal_spread_are_noted_once_with_factors():
    notes = []
    watch = SpreadWatch(["small", "large"], 0.0, notes.append)
    generator = np.random.default_rng(0)
    for _ in range(1_100):
        watch.add(generator.normal(size=2).astype(np.float32) * [0.1, 5.0], np.ones(2, bool))
    assert len(notes) == 1
    assert "large" in notes[0]
    assert "small" in notes[0]
    factors = [float(word) for word in notes[0].partition("--reward-scale ")[2].split()[:2]]
    assert factors == pytest.approx([50.0, 1.0], rel=0.2)
    assert OfTasks(["a", "b"], 3).named("e/value/1") == "e/value/b"


def test_a_price_above_the_spread_of_rewards_is_noted():
    notes = []
    generator = np.random.default_rng(0)
    rewards = generator.normal(size=(1_100, 3)).astype(np.float32) * [
        0.05,
        0.2,
        0.0,
    ]  # the last one knows no reward yet
    for price in (0.1, 0.01):
        watch = SpreadWatch(["run", "stand", "sparse"], price, notes.append)
        for row in rewards:
            watch.add(row, np.ones(3, bool))
    said = [note for note in notes if "nat of the KL" in note]
    assert len(said) == 1
    assert "costs 0.1, more than the standard deviation of the rewards of run (0.0" in said[0]
    assert "stand (" not in said[0]
    assert fixed_price(agent_of(Distral(hidden_sizes=(8,), kl_cost=0.02, entropy_cost=0.03))) == pytest.approx(0.05)
    assert fixed_price(agent_of(SAC(hidden_sizes=(8,)))) == 0.0


def agent_of(row):
    return init(row, Spec(5, 1, tasks=2), make_key(0))


def test_a_name_that_looks_like_a_formula_stays_text(tmp_path):
    names = {"@risk(1),2": "Pendulum-v1?max_episode_steps=20", "../up/<b>": "Pendulum-v1?max_episode_steps=20"}
    done = train(tmp_path, env=read_envs(names), steps=80, warmup_steps=80, eval_episodes=0, eval_every=0)
    with (done.run_dir / "episodes.csv").open(newline="") as file:
        assert {row["task"] for row in csv.DictReader(file)} == {"'@risk(1),2", "../up/<b>"}
    assert done.run_dir.is_relative_to(tmp_path)
    assert len(done.run_dir.relative_to(tmp_path).parts) == 3


@pytest.mark.long
def test_a_cheetah_trains_forward_and_backward(tmp_path):
    pair = ["HalfCheetah-v5", "HalfCheetah-v5?forward_reward_weight=-1"]
    assert [task.name for task in read_envs([gymnasium.make(pair[0]), pair[1]])] == sorted(pair)
    options = {"steps": 800, "warmup_steps": 200, "replay_size": 2_000, "eval_every": 0, "eval_episodes": 1}
    done = train(tmp_path, env=read_envs(pair), **options)
    assert len(table(done.run_dir, "eval.csv")) == 3
    assert np.isfinite(done.eval_mean)
    assert records(done.run_dir)["metrics.jsonl"][-1]["updates"] == 600
