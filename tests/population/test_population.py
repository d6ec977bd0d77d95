"""A population of seeds: its folder, its members, killing and resuming, failures, and what is refused."""

import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from child import Notes, digest, job, metrics, only_run, resume, table, train, without_times
from dying import Killed, dying
from several import PURE, SEVERAL, SMALL, started

import estep
from estep.algorithms import ALGORITHMS
from estep.core.types import Spec
from estep.data.replay import Replay
from estep.envs.pure.adapter import find, hosted
from estep.envs.pure.environment import PureEnv
from estep.envs.tasks.sources import read_envs
from estep.errors import EnvironmentFailure, RejectedInput, StorageFailure, UsageError
from estep.plots import learning_curves
from estep.policy.actor import key_of
from estep.policy.policy import load as load_policy
from estep.population import population, ring, session, sizes
from estep.population.programs import loop, updates
from estep.population.programs.loop import Turns, run_turns
from estep.population.ring import Stored
from estep.population.split import write_member
from estep.population.state import new_learner, plan_of, take
from estep.population.trainer import LONGEST, Schedule
from estep.runs import checkpoint
from estep.runs.folder import RunFolder
from estep.runs.leaves import skeleton
from estep.settings.run import RunConfig
from estep.training.update import init


def written(run_dir):
    """What every seed wrote, without times."""
    members = sorted((Path(run_dir) / "members").iterdir())
    return [
        [*map(without_times, metrics(one)), *(without_times(row) for row in table(one, "eval.csv"))] for one in members
    ]


def interrupted(out, kills, algorithm=SMALL, **changes):
    """The same population, killed in turn after so many safe points."""
    with pytest.raises(Killed):
        train(out, algorithm, stop=dying(kills[0]), **changes)
    for kill in kills[1:]:
        with pytest.raises(Killed):
            resume(only_run(out), dying(kill))
    return resume(only_run(out)).run_dir


def test_the_folder_has_one_record_and_the_lines_of_every_seed(whole):
    run_dir, report = whole
    assert run_dir.name.endswith("-s5-7")
    record = json.loads((run_dir / "run.json").read_text())
    assert (record["status"], record["failed"], record["result"]["env_steps"]) == ("done", {}, 160)
    assert sorted(path.name for path in (run_dir / "members").iterdir()) == ["0000", "0001", "0002"]
    for lines in written(run_dir):
        assert [line["env_steps"] for line in lines if "updates" in line and "data/replay" in line] == [
            40,
            80,
            120,
            160,
        ]
        assert [row["env_steps"] for row in lines if "mean" in row] == ["70", "140", "160"]
        assert lines[3]["data/replay"] == 160
        assert lines[3]["updates"] == 108
    assert len({line["critic/loss"] for lines in written(run_dir) for line in lines[3:4]}) == 3
    assert all(report.said(text) for text in ("memory   ", "seeds, 5 to 7", "no accelerator"))
    assert all(reason is None for _, reason in checkpoint.verify(run_dir))


def test_killed_it_goes_on_to_the_same_bits(tmp_path, whole):
    run_dir = interrupted(tmp_path, (3, 2, 4), **SEVERAL)
    assert digest(run_dir) == digest(whole[0])
    assert written(run_dir) == written(whole[0])


def test_every_member_is_a_policy_and_has_one_result(whole):
    found = population.load_population(whole[0])
    assert len(found) == 3
    one, scores = found[1], found.evaluate(2)
    assert isinstance(one, estep.Policy)
    assert one.recipe.run.seed == 6
    assert one.recipe.run.population is None
    assert np.abs(one.act(np.zeros(3, np.float32))).max() <= 1
    assert [len(each.returns) for each in scores] == [2, 2, 2]
    assert len({each.mean for each in scores}) == 3
    assert all(-2000 < each.mean < 0 for each in scores)
    assert found.evaluate(2) == scores
    assert [policy.recipe.run.seed for policy in found[-2:]] == [6, 7]
    with pytest.raises(IndexError):
        found[3]
    with pytest.raises(RejectedInput, match="a population of 3 seeds"):
        load_policy(whole[0])


def test_each_seed_begins_as_in_a_run_of_its_own():
    agents = started().engine.learners.agent
    for i in range(3):
        alone = init(SMALL, Spec(3, 1), key_of(5 + i, 0))
        for mine, theirs in zip(jax.tree.leaves(agents), jax.tree.leaves(alone), strict=True):
            np.testing.assert_allclose(mine[i], theirs, atol=1e-6)


def test_a_member_is_written_as_a_run_with_its_replay(tmp_path, whole):
    target = write_member(whole[0], 2, tmp_path / "member", replay=True)
    policy = load_policy(target, "latest")
    found = population.load_population(whole[0], "latest")[2]
    for mine, theirs in zip(jax.tree.leaves(policy.agent), jax.tree.leaves(found.agent), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    np.testing.assert_array_equal(policy.moments.mean, found.moments.mean)
    from estep.instruments.states import replay_of

    replay: Replay = replay_of(policy, "latest")
    assert len(replay) == 160
    steps = replay.read(replay.newest(80, 1)[:, 0])
    assert np.isfinite(steps.obs).all()
    assert (steps.obs[1:79] == steps.next_obs[:78]).all()  # the first environment, whose episode goes on
    assert load_policy(target, "best").env_steps == population.load_population(whole[0], "best").env_steps[2]
    assert (target / "eval.csv").read_text() == (whole[0] / "members/0002/eval.csv").read_text()


def test_whatever_compares_runs_takes_it_as_one_run_a_seed(whole):
    found = learning_curves.points(whole[0])
    assert sorted({point.seed for point in found}) == [5, 6, 7]
    (last,) = [row for row in learning_curves.curves(found) if row.env_steps == 160]
    assert last.seeds == 3


def test_a_checkpoint_that_was_cut_short_is_refused(tmp_path, whole):
    broken = tmp_path / "broken"
    shutil.copytree(whole[0], broken)
    for path in (broken / "checkpoints").glob("*/state.safetensors"):
        path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(RejectedInput):
        resume(broken, steps=200)


def test_what_cannot_be_resumed_is_refused(whole):
    with pytest.raises(UsageError, match="a population of 3, not a population of 4"):
        resume(whole[0], population=4)
    for options in ({"stop_at": 1.0, "population": 2}, {"population": 2, "seed": 2**32 - 1}):
        with pytest.raises(UsageError):
            RunConfig(**options)
    with pytest.raises(UsageError, match="on_step and on_evaluation follow one run"):
        estep.train(SMALL, PURE, population=2, on_step=print)


def test_one_instance_is_no_environment_for_many(tmp_path):
    import gymnasium

    with pytest.raises(UsageError, match="each of the 2 seeds needs its own"):
        train(tmp_path, SMALL, gymnasium.make("Pendulum-v1"), population=2)
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def three():
    """A trainer whose program is compiled. Tests that change it take their own state from it."""
    trainer = started()
    trainer.advance(30)
    return trainer


def test_each_row_of_replay_is_of_one_step(three):
    """The reward of a pendulum is a function of the observation and the action that are stored beside it."""
    held, share = jax.device_get(three.engine.learners.ring), three.plan.form.size.steps_per_env
    for seed in range(3):
        rows = [
            held.steps[seed, env, number % share]
            for env in range(2)
            for number in range(held.first[seed, env], held.end[seed, env])
        ]
        (cos, sin, velocity), (u, reward) = held.obs[seed, rows].T, held.columns[seed, rows, :2].T
        cost = np.arctan2(sin, cos) ** 2 + 0.1 * velocity**2 + 0.001 * (2 * np.tanh(u)) ** 2
        np.testing.assert_allclose(reward, -cost, rtol=1e-4, atol=1e-4)
        assert len(rows) == 60


def test_a_seed_whose_updates_fail_is_frozen_as_it_is_and_the_others_go_on(three):
    engine = three.engine
    columns = engine.learners.ring.columns.at[1].set(jnp.nan)
    engine.learners = engine.learners._replace(ring=engine.learners.ring._replace(columns=columns))
    before = jax.device_get(engine.learners.agent)
    new = three.advance(32)
    assert set(new) == {1}
    assert "20 updates in a row" in new[1]
    after = jax.device_get(engine.learners.agent)
    moved = [
        [not np.array_equal(a[i], b[i]) for a, b in zip(*map(jax.tree.leaves, (before, after)), strict=True)]
        for i in range(3)
    ]
    assert not any(moved[1])
    assert all(any(moved[i]) for i in (0, 2))
    assert jax.device_get(engine.learners.skipped).tolist()[::2] == [0, 0]
    assert three.means()[1]["skipped"] == 20
    assert three.advance(8) == {}


@pytest.mark.long
def test_a_glitch_of_one_seed_is_taken_out_and_the_seed_goes_on(three):
    """No update on a reward of 3e38 is finite."""
    engine, before = three.engine, jax.device_get(three.engine.learners.skipped)
    held = engine.learners.ring
    row = int(held.steps[2, 0, (held.first[2, 0] + 9) % three.plan.form.size.steps_per_env])
    columns = held.columns.at[2, row, three.plan.form.size.action].set(3e38)
    engine.learners = engine.learners._replace(ring=held._replace(columns=columns))
    for _ in range(100):
        assert three.advance(4) == {}
        if jax.device_get(engine.learners.skipped)[2] > before[2]:
            break
    stored = jax.device_get(engine.learners.ring.end - engine.learners.ring.first).sum(-1)
    assert three.drop_bad() == {2: 1}
    assert three.dropped == [0, 0, 1]
    left = jax.device_get(engine.learners.ring.end - engine.learners.ring.first).sum(-1)
    assert (stored - left).tolist() == [0, 0, 1]
    skipped = jax.device_get(engine.learners.skipped).tolist()
    assert three.advance(30) == {}
    assert jax.device_get(engine.learners.skipped).tolist() == skipped
    assert three.drop_bad() == {}


def test_a_seed_with_bad_transitions_is_frozen(three):
    engine = three.engine
    engine.worlds = engine.worlds._replace(bad=engine.worlds.bad.at[2].set(11))
    held = jax.device_get(engine.learners.ring.end).tolist()
    assert set(three.advance(3)) == {2}
    grown = np.subtract(jax.device_get(engine.learners.ring.end), held)[:, 0]
    assert grown[[0, 2]].tolist() == [3, 1]
    engine.worlds = engine.worlds._replace(bad=jnp.zeros_like(engine.worlds.bad))


def programs(trainer):
    """The compiled text of the loop on the device, and of storing and updating for environments on the host."""
    engine, plan, zeros = trainer.engine, trainer.plan, np.zeros((3, 2, 3), np.float32)
    turns = Turns(*map(jnp.asarray, trainer.schedule.turns(0, 0, 1)[0]))
    yield run_turns.lower(plan, engine.env, engine.learners, engine.worlds, engine._seeds, turns, jnp.int32(1))
    flags = np.zeros((3, 2), bool)
    step = Stored(zeros, zeros[..., :1], zeros[..., 0], flags, flags, zeros, ~flags)
    yield loop._store_all.lower(plan, engine.learners._replace(agent=None, sums=None), step, {}, zeros)
    yield loop.update_all.lower(plan, engine.learners, engine._seeds, np.uint32(0), np.int32(1))


def test_the_programs_copy_no_array_of_the_shape_of_replay_and_stay_on_the_device(three):
    form = three.plan.form
    shapes = [rf"f32\[3,{form.rows},{width}\]" for width in (form.size.observation, form.size.columns)]
    for lowered in programs(three):
        text = lowered.compile().as_text()
        assert all(re.search(shape, text) for shape in shapes)
        for shape in shapes:
            assert not re.search(rf"{shape}\S* copy", text), shape
        assert not re.search("outfeed|infeed|callback| send", text)


def test_a_checkpoint_waits_until_its_share_of_the_time(three, tmp_path, monkeypatch):
    monkeypatch.setattr(session, "SHARE", 0.05)
    folder = RunFolder(tmp_path)
    running = session.PopulationSession(folder, three, None, job(), None)
    running.saved, running.save_s = 0, 2.0
    for waited, due in ((37.0, False), (39.0, True)):
        running.saved_at = time.monotonic() - waited
        assert running.must_save() == due
    running.close()


def test_turns_and_updates_follow_the_counts_of_an_ordinary_run():
    config = RunConfig(num_envs=2, warmup_steps=10, updates_per_step=0.5, updates_per_call=3)
    schedule = Schedule(config, rollout=0, length=1, block=3)
    turns, steps, updates = schedule.turns(0, 0, 20)
    assert (steps, updates) == (40, 15)
    assert turns.explore[:6].tolist() == [True] * 5 + [False]
    assert turns.blocks[:20].sum() * 3 == 15
    assert turns.blocks.shape == (LONGEST,)
    split = schedule.turns(0, 0, 7)
    again = schedule.turns(split[1], split[2], 13)
    assert again[1:] == (steps, updates)
    fresh = Schedule(config, rollout=8, length=4, block=6).turns(0, 0, 9)
    assert fresh[0].blocks[:9].tolist() == [0, 0, 0, 1, 0, 0, 0, 1, 0]
    assert not fresh[0].explore.any()


def test_what_does_not_fit_names_the_largest_that_does(monkeypatch, tmp_path):
    config = RunConfig(population=64, steps=10_000)
    spec = Spec(17, 6)
    agent = skeleton(SMALL, spec)
    plan = plan_of(agent, spec, config, np.float32)
    one = sizes.needs(agent, plan.form)
    held = jax.eval_shape(lambda: ring.empty(plan.form))
    assert one.replay == sum(np.prod(leaf.shape) * leaf.dtype.itemsize for leaf in held)
    with pytest.raises(UsageError) as refused:
        sizes.check_memory(64, one, plan.form, 20 * one.all)
    assert refused.value.fix.startswith("Give --population at most 16, or --replay-size at most ")
    fits = int(refused.value.fix.rpartition(" ")[2].rstrip("."))
    small = plan_of(agent, spec, RunConfig(population=64, steps=10_000, replay_size=fits), np.float32)
    sizes.check_memory(64, sizes.needs(agent, small.form), small.form, 20 * one.all)
    sizes.check_memory(16, one, plan.form, 20 * one.all)
    monkeypatch.setattr(sizes.shutil, "disk_usage", lambda place: shutil._ntuple_diskusage(10, 5, 5))
    with pytest.raises(StorageFailure, match="of disk"):
        sizes.check_disk(tmp_path / "runs", 64, one, plan.form, 3)
    sizes.check_listed(256, plan_of(agent, spec, RunConfig(steps=10**6), np.float32).form)
    with pytest.raises(UsageError, match="may list") as refused:
        sizes.check_listed(400, plan_of(agent, spec, RunConfig(steps=10**6), np.float32).form)
    assert "--population at most 300" in refused.value.fix


def bad_env(**changes):
    """A point whose reward is not a number."""
    parts = {
        "name": "bad",
        "spec": Spec(1, 1),
        "reset": lambda key: jax.random.normal(key),
        "observe": lambda state: state[None],
        "step": lambda state, action: (state + action[0], jnp.nan * state, state > 9.0),
        "limit": 5,
    }
    return PureEnv(**(parts | changes))


@pytest.mark.long
def test_an_environment_that_fails_for_every_seed_ends_the_run(tmp_path):
    with pytest.raises(EnvironmentFailure, match="All 2 seeds failed"):
        train(tmp_path, SMALL, bad_env(), population=2, steps=100, eval_episodes=0)
    record = json.loads((only_run(tmp_path) / "run.json").read_text())
    assert (record["exit_code"], sorted(record["failed"])) == (5, ["0", "1"])


SMALLER = {
    "iterative-sac": {"iterations": 2, "act_samples": 2},
    "mpo": {"samples": 3},
    "rerpi": {"samples": 3},
    "sql": {"particles": 4, "target_samples": 3},
    "vmpo": {"rollout": 40, "unroll": 4, "epochs": 2},
    "soft-pg": {"rollout": 40, "unroll": 4},
}


def row_of(name):
    """A small agent of an algorithm."""
    return ALGORITHMS[name](hidden_sizes=(8,), **SMALLER.get(name, {}))


@pytest.mark.long
@pytest.mark.parametrize("env", [PURE, "pure/CartPole-v1"])
@pytest.mark.parametrize("name", sorted(ALGORITHMS))
def test_every_algorithm_trains_a_chunk(name, env):
    try:
        trainer = started(row_of(name), env=env, population=2, normalise=False)
    except UsageError as refused:
        pytest.skip(refused.what)  # not every algorithm has discrete actions
    before = jax.device_get(trainer.engine.learners.agent)
    assert trainer.advance(50) == {}
    assert trainer.updates > 0
    means = trainer.means()
    assert all(np.isfinite(list(row.values())).all() for row in means), means
    assert [row["skipped"] for row in means] == [0, 0]
    after = jax.device_get(trainer.engine.learners.agent)
    assert any(not np.array_equal(a, b) for a, b in zip(*map(jax.tree.leaves, (before, after)), strict=True))
    assert len(trainer.engine.evaluate(2, 0)) == 2


@pytest.mark.long
def test_a_member_agrees_with_the_same_seed_alone():
    together, alone = started(seed=3), started(seed=4, population=1)
    for trainer in (together, alone):
        trainer.advance(50)
    for mine, theirs in zip(
        *(jax.tree.leaves(jax.device_get(t.engine.learners.agent)) for t in (together, alone)), strict=True
    ):
        np.testing.assert_allclose(mine[1], theirs[0], rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(
        together.engine.learners.ring.obs[1], alone.engine.learners.ring.obs[0], rtol=1e-3, atol=1e-4
    )


@pytest.mark.long
@pytest.mark.parametrize("name", ["sac", "iterative-sac", "vmpo"])
@pytest.mark.parametrize("env", [PURE, "CartPole-v1"])
def test_killed_every_kind_goes_on_to_the_same_bits(tmp_path, name, env):
    changes = {**SEVERAL, "population": 2, "env": env, "normalise": name == "sac"}
    run_dir = train(tmp_path / "a", row_of(name), **changes).run_dir
    again = interrupted(tmp_path / "b", (3, 2, 4), row_of(name), **changes)
    assert digest(again) == digest(run_dir)
    assert written(again) == written(run_dir)


@pytest.mark.long
def test_longer_than_planned_it_goes_on_in_a_larger_replay(tmp_path):
    run_dir = train(tmp_path, SMALL, **{**SEVERAL, "steps": 60}).run_dir
    before = checkpoint.load(checkpoint.newest(run_dir)[0], None, None)
    assert before.meta["capacity"] == 60
    assert resume(run_dir, steps=120).env_steps == 120
    after = checkpoint.load(checkpoint.newest(run_dir)[0], None, None)
    assert after.meta["capacity"] == 120
    assert [line["data/replay"] for line in metrics(run_dir / "members/0001")][-1] == 120


@pytest.mark.long
def test_memory_is_what_was_announced():
    spec, count, large = Spec(17, 6), 4, RunConfig(population=4, steps=200_000)
    algorithm = estep.SAC(hidden_sizes=(64, 64))
    shape = skeleton(algorithm, spec)
    plan = plan_of(shape, spec, large, np.float32)
    seeds = jax.ShapeDtypeStruct((count,), jnp.uint32)
    learners = jax.eval_shape(lambda seeds: jax.vmap(lambda s: new_learner(algorithm, plan, s))(seeds), seeds)
    number = jax.ShapeDtypeStruct((), jnp.uint32), jax.ShapeDtypeStruct((), jnp.int32)
    found = loop.update_all.lower(plan, learners, seeds, *number).compile().memory_analysis()
    used = found.argument_size_in_bytes + found.output_size_in_bytes - found.alias_size_in_bytes
    assert used + found.temp_size_in_bytes < 1.1 * count * sizes.needs(shape, plan.form).all


@pytest.mark.long
@pytest.mark.parametrize("env", [PURE, "pure/CartPole-v1"])
def test_one_agent_learns_from_many_environments(env):
    settings = {"population": 1, "num_envs": 256, "updates_per_step": 0.02, "batch_size": 512, "warmup_steps": 512}
    settings["replay_size"] = 10_000
    trainer = started(env=env, steps=10_000, normalise=False, **settings)
    trainer.advance(8)
    assert (trainer.env_steps, trainer.updates) == (2048, 28)  # 0.02 of the steps after the warm-up, in whole blocks
    held = trainer.engine.learners.ring
    assert int((held.end - held.first).sum()) == 2048
    assert trainer.means()[0]["skipped"] == 0


@pytest.mark.long
def test_split_members_resume_alone(tmp_path, whole):
    from estep.population.split import split

    for member, path in enumerate(split(whole[0], tmp_path, report=Notes())):
        ended = resume(path, steps=200)
        assert ended.env_steps == 200
        assert metrics(path)[-1]["env_steps"] == 200
        assert load_policy(path).recipe.run.seed == 5 + member


@pytest.mark.long
def test_two_seeds_learn_pendulum(tmp_path):
    options = {"steps": 6_000, "warmup_steps": 500, "hidden_sizes": (64, 64), "batch_size": 128, "eval_every": 1_000}
    options |= {"updates_per_call": 1}
    found = estep.train("sac", PURE, population=2, out=tmp_path, learning_rate=1e-3, report=None, **options)
    assert all(one.mean > -400 for one in found.evaluate(10))


def test_constants_of_freezing():
    assert (updates.SKIPS_IN_A_ROW, loop.BAD_IN_A_ROW) == (20, 10)


@pytest.mark.long
@pytest.mark.parametrize("name", ["sac", "iterative-sac", "vmpo"])
def test_processes_that_are_killed_go_on_to_the_same_bits(tmp_path, name):
    changes = {**SEVERAL, "population": 2}
    a, b = str(tmp_path / "a"), str(tmp_path / "b")
    parts = [(a, name, changes, None)]
    parts += [(b, name, changes, ends) for ends in (("SIGKILL", 5, 0.01), ("SIGKILL", 3, 0.0), None)]
    program = [sys.executable, str(Path(__file__).parents[1] / "helpers" / "child.py"), json.dumps(parts)]
    done = subprocess.run(program, stdout=subprocess.PIPE, text=True, timeout=600, check=True)
    assert done.stdout.split() == ["0", "-9", "-9", "0"]
    assert digest(only_run(b)) == digest(only_run(a))
    assert written(only_run(b)) == written(only_run(a))


def test_rewards_are_stored_with_their_factor(three):
    learner = take(three.engine.learners, 0)
    zeros = np.zeros((2, 3), np.float32)
    parts = zeros, zeros[:, :1], np.array([1.5, -2.0], np.float32), *(np.zeros(2, bool),) * 2, zeros, np.ones(2, bool)
    plan = plan_of(three.shape, three.plan.spec, RunConfig(population=3, num_envs=2, reward_scale=(0.5,)), np.float32)
    scaled = loop._store(plan._replace(form=three.plan.form), learner, Stored(*map(jnp.asarray, parts)), {})
    newest = scaled.ring.steps[jnp.arange(2), (scaled.ring.end - 1) % three.plan.form.size.steps_per_env]
    assert ring.read(three.plan.form, scaled.ring, newest).reward.tolist() == [0.75, -1.0]


def test_a_population_is_evaluated_in_one_environment(whole):
    found = population.load_population(whole[0])
    with pytest.raises(UsageError, match="A population has one environment, but 2 are given"):
        found.evaluate(1, env=[PURE, "Pendulum-v1"])
    assert [len(one.returns) for one in found.evaluate(2, env=[PURE])] == [2, 2, 2]


def test_a_pure_environment_is_one_environment_and_may_be_one_of_several_tasks():
    mine = bad_env()
    assert read_envs(mine) is mine
    assert read_envs([mine]) is mine
    tasks = hosted(read_envs([mine, "Pendulum-v1"]))
    assert [task.name for task in tasks] == ["Pendulum-v1", "bad"]
    assert tasks[1].source().observation_space.shape == (1,)
    assert find(f"earth={PURE}") is find(PURE)
    assert find(f"{PURE}?g=5.0") is None
