"""A glitch is no death sentence (R28): steps on which no update is finite are dropped, or the run goes back once."""

import shutil
import subprocess
import sys
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from child import SMALL, Notes, config, metrics, only_run, resume, train
from faulty import Counter, at

from estep.data.layout import Row
from estep.data.replay import NO_STEP, Replay
from estep.envs.gymnasium import make
from estep.errors import NumericHalt, RejectedInput
from estep.runs import checkpoint
from estep.training import update
from estep.training.recovery import dump
from estep.training.recovery.suspects import bad_rows
from estep.training.trainer import Trainer

pytestmark = pytest.mark.filterwarnings("ignore:Observation .* beyond 1000")
GLITCH = np.array([3.0, 1e30, 0.5], np.float32)
QUICK = {"eval_every": 0, "eval_episodes": 0, "max_episode_steps": 20}


def filled(steps, num_envs=1, length=5, capacity=100):
    """A replay of episodes of a counter; the reward of a step is its number."""
    replay = Replay(capacity, num_envs, Row(1, numbers=1))
    for i in range(steps):
        at = np.full((num_envs, 1), i, np.float32)
        end = np.full(num_envs, (i + 1) % length == 0)
        flags = np.zeros(num_envs, np.bool_), end
        replay.add(at, at, at[:, 0], *flags, at + 1, np.ones(num_envs, np.bool_))
    return replay


def held(replay, env=0):
    """Reward and last of each step that can be sampled, oldest first."""
    rows = replay._steps[env, np.arange(replay._first[env], replay._end[env]) % replay._size.steps_per_env]
    steps = replay.read(rows)
    return list(zip(steps.reward.astype(int).tolist(), steps.last.astype(int).tolist(), strict=True))


def row_of(replay, reward, env=0):
    return int(next(row for row in replay._steps[env] if replay.read(np.array([row])).reward[0] == reward))


@pytest.mark.parametrize("number", [0, 2, 4, 7, 12])
def test_a_step_that_is_dropped_leaves_two_episodes(number):
    replay = filled(13)
    before = held(replay)
    replay.drop(np.array([row_of(replay, number)] * 2))
    after = held(replay)
    assert [reward for reward, _ in after] == [n for n in range(13) if n != number]
    assert len(replay) == 12
    changed = {one: two for one, two in zip(before[:number] + before[number + 1 :], after, strict=True) if one != two}
    assert changed == ({} if number in (0,) else {(number - 1, 0): (number - 1, 1)})
    for rows in replay.draw(0, 0, (50,), length=3):
        steps = replay.read(rows)
        joined = steps.last[:-1] == 0
        assert (steps.next_obs[:-1][joined] == steps.obs[1:][joined]).all()


@pytest.mark.parametrize("number", [3, 12])
def test_what_was_dropped_stays_dropped_in_a_checkpoint(number):
    replay = filled(13)
    replay.clean({0})
    replay.drop(np.array([row_of(replay, number)]))
    assert replay.dirty == {0}
    other = Replay(100, 1, Row(1, numbers=1))
    other.load_chunk(0, replay.chunk(0))
    other.load_counters(replay.counters())
    assert held(other) == held(replay)
    for one in (replay, other):  # the ring goes on as before
        step = np.full((1, 1), 99, np.float32)
        no, yes = np.zeros(1, np.bool_), np.ones(1, np.bool_)
        for _ in range(150):
            one.add(step, step, step[:, 0], no, no, step, yes)
    assert held(other) == held(replay)
    assert len(replay) == 100


def test_of_several_environments_only_one_loses_its_step():
    replay = filled(13, num_envs=3)
    replay.drop(np.array([row_of(replay, 6, env=1)]))
    assert [len(held(replay, env)) for env in range(3)] == [13, 12, 13]
    assert (replay._columns[:, -1] == NO_STEP).sum() == 3 * 2 + 1


@pytest.mark.parametrize("bad", [{5}, {0, 31}, {1, 2, 3, 4, 5}, set()])
def test_suspects_are_found_by_halves(bad):
    calls = []

    def unsound(sets):
        calls.append(len(sets))
        return np.array([bool(bad & set(rows.tolist())) for rows in sets])

    assert set(bad_rows(unsound, np.arange(32)).tolist()) == bad
    assert len(calls) <= 6


def test_noise_that_no_half_repeats_blames_nobody():
    assert bad_rows(lambda sets: np.array([len(rows) == 32 for rows in sets]), np.arange(32)).size == 0


@pytest.mark.parametrize("algorithm", ["sac", pytest.param("iterative-sac", marks=pytest.mark.long)])
@pytest.mark.parametrize("episode", [1, 3])  # in the warm-up, and after it
def test_one_huge_observation_is_taken_out_and_the_run_goes_on(algorithm, episode, tmp_path):
    notes = Notes()
    env = lambda: Counter(length=20, fault=at(7, "obs", GLITCH, episode))
    result = train(tmp_path, algorithm, env=env, report=notes, **QUICK)
    assert result.status == "done"
    loaded = checkpoint.load(checkpoint.newest(result.run_dir)[0], None, None)
    counts = loaded.meta["counts"]
    assert counts["dropped"] == 2  # the step to it and the step from it
    assert 1 <= counts["skipped"] <= 4
    assert counts["rollbacks"] == counts["skips_in_a_row"] == 0
    assert loaded.meta["skips"] == []
    assert notes.said("steps without a finite update were dropped")
    assert notes.said("2 so far")
    assert metrics(result.run_dir)[-1]["data/dropped"] == 2
    again = resume(result.run_dir, env=env, steps=160)
    assert (again.status, again.updates) == ("done", 120)
    dropped = checkpoint.load(checkpoint.newest(result.run_dir)[0], None, None).meta["counts"]["dropped"]
    assert dropped == (4 if episode == 1 else 2)  # a new environment has the fault in its own first episode


def test_several_environments_lose_only_what_is_bad(tmp_path):
    made = []

    def env():
        made.append(Counter(length=20, fault=at(3, "reward", 3e38, len(made) == 1 or -1)))
        return made[-1]

    one = Trainer(SMALL["sac"], make(env, num_envs=2, timeout=0.0), config(num_envs=2), Notes().note)
    one.begin()
    while one.counts.env_steps < 120:
        one.advance()
    assert one.counts.dropped == 1
    assert np.abs(one.replay.sample(0, 0, (1000,)).reward).max() < 100


def advance(trainer, steps):
    for _ in range(steps):
        trainer.advance()


def test_an_agent_that_is_broken_blames_no_step():
    one = Trainer(SMALL["sac"], make(lambda: Counter(length=20), timeout=0.0), config(), Notes().note)
    one.begin()
    while one.counts.updates < 4:
        one.advance()
    critic = jax.tree.map(lambda leaf: jnp.full(leaf.shape, 1e30, leaf.dtype), one.agent.likelihood.model)
    one.agent = replace(one.agent, likelihood=replace(one.agent.likelihood, model=critic))
    with pytest.raises(NumericHalt):
        advance(one, 60)
    assert one.counts.dropped == 0


@pytest.fixture(scope="module")
def halted(tmp_path_factory):
    out = tmp_path_factory.mktemp("halted")
    env = lambda: Counter(length=0, fault=at(None, "reward", 3e38))
    with pytest.raises(NumericHalt):
        train(out, env=env, **QUICK)
    return only_run(out)


def test_the_dump_is_repeated_to_the_bit(halted):
    found = dump.repeat(halted / "dump")
    assert found.update == 10
    assert found.metrics["skipped"] == 1
    assert found.equal
    assert found.blamed == []  # every step of the batch is as bad


@pytest.mark.long
def test_a_fresh_process_repeats_the_dump(halted):
    argv = [sys.executable, "-m", "estep", "replay-step", str(halted / "dump")]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "update   10 was skipped" in done.stdout
    assert "equal    yes, bit for bit" in done.stdout


@pytest.mark.parametrize(
    ("file", "content"), [("update.json", b"[]"), ("update.json", b"{}"), ("params.safetensors", b"x"), ("batch", None)]
)
def test_a_dump_that_is_none_is_refused(file, content, halted, tmp_path):
    copied = shutil.copytree(halted / "dump", tmp_path / "dump")
    if content is None:
        (copied / f"{file}.safetensors").unlink()
    else:
        (copied / file).write_bytes(content)
    with pytest.raises(RejectedInput, match="cannot be read"):
        dump.repeat(copied)


def test_a_run_goes_back_once_and_learns_with_other_random_numbers(tmp_path, monkeypatch):
    sound, drawn = update.improve, []

    def failing(agent, batches, key, number, scaling):
        drawn.append((int(number), np.asarray(batches.obs).tobytes()))
        agent, (memo, info) = sound(agent, batches, key, number, scaling)
        fails = number >= 40 and len(drawn) < 16
        return agent, (memo, {**info, "skipped": np.full(4, fails, np.float32)})

    monkeypatch.setattr(update, "improve", failing)
    monkeypatch.setattr(update, "PROBED", 0)
    notes = Notes()
    result = train(tmp_path, report=notes, **{**QUICK, "env": "Pendulum-v1"})
    assert result.status == "done"
    assert notes.said("goes on from step_80 with other random numbers")
    counts = checkpoint.load(checkpoint.newest(result.run_dir)[0], None, None).meta["counts"]
    assert (counts["rollbacks"], counts["updates"], counts["env_steps"]) == (1, 80, 120)
    assert metrics(result.run_dir)[-1]["rollbacks"] == 1
    steps = [line["env_steps"] for line in metrics(result.run_dir)]
    assert steps == sorted(set(steps))
    first, second = [[data for number, data in part if number == 40] for part in (drawn, drawn[::-1])]
    assert first[0] != second[0]
