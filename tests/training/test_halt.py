"""What must not be learned from: updates that are not finite (R28) and transitions that are bad (R22)."""

import jax
import numpy as np
import pytest
from child import SMALL, Notes, config, metrics, only_run, train
from faulty import Counter, act, at
from safetensors.numpy import load_file

from estep.core.types import Spec
from estep.envs.gymnasium import make
from estep.errors import EnvironmentFailure, NumericHalt
from estep.policy.actor import key_of
from estep.runs import checkpoint
from estep.runs.folder import RunFolder
from estep.runs.leaves import named_leaves
from estep.training import update
from estep.training.recovery import skips
from estep.training.trainer import Trainer
from estep.training.update import init

HUGE = 3e38
NAN = np.full(3, np.nan, np.float32)
ENDLESS = {"eval_every": 0, "max_episode_steps": 5, "eval_episodes": 1}


@pytest.fixture
def idle():
    """A trainer whose updates are made up."""
    return Trainer(SMALL["sac"], make("Pendulum-v1", timeout=0.0), config(), Notes().note)


def count(one, flags):
    """Count made-up blocks of one update each; returns how many it took to halt."""
    for i, flag in enumerate(flags):
        one.counts.updates += 1
        try:
            if flag or one.counts.skips_in_a_row:
                one.count_skips(np.array([flag], np.float32), Batch(np.full(1, i)), np.zeros(1, np.bool_))
        except NumericHalt:
            return i + 1
    return None


class Batch(tuple):
    """Stands for a block of batches."""

    def __new__(cls, number):
        return super().__new__(cls, (number,))

    def _asdict(self):
        return {"number": self[0], "memo": ()}

    memo = ()


@pytest.mark.parametrize(
    ("flags", "halts_after"),
    [
        ([1] * 30, 11),  # more than 10 of the last 10,000 comes before 20 in a row
        ([1] * 10 + [0] * 500, None),
        (([1] + [0] * 99) * 12, 1001),
        (([1] + [0] * 999) * 30, None),  # one in a thousand: 10 in any 10,000
        (([1] + [0] * 998) * 30, 9991),
        ([1] * 10 + [0] * 9990 + [1] * 10 + [0], None),
        ([1] * 10 + [0] * 9989 + [1] * 10, 10_000),
    ],
)
def test_more_than_ten_of_the_last_ten_thousand_halt(idle, flags, halts_after):
    assert count(idle, flags) == halts_after
    assert idle.counts.skipped == sum(flags[:halts_after])


def test_twenty_in_a_row_halt(idle, monkeypatch):
    monkeypatch.setattr(skips, "OF_LAST", (1000, 10_000))
    assert count(idle, ([1] * 19 + [0]) * 3) is None
    assert idle.counts.skips_in_a_row == 0
    assert count(idle, [1] * 30) == 20
    assert idle.halt_dump["update"] == idle.counts.updates - 1
    assert idle.halt_dump["batch.number"] == 19


def test_updates_that_are_not_finite_end_the_run_with_a_dump(tmp_path):
    notes = Notes()
    with pytest.raises(NumericHalt) as raised:
        train(tmp_path, env=lambda: Counter(length=0, fault=at(None, "reward", HUGE)), report=notes, **ENDLESS)
    assert raised.value.exit_code == 4
    folder = only_run(tmp_path)
    ended = RunFolder.open(folder).read_run()
    assert (ended["status"], ended["exit_code"], ended["error"]) == ("error", 4, raised.value.what)
    assert ended["result"]["updates"] == 12  # the block in which the 11th was skipped
    assert notes.said("dump")
    assert sum("goes on from step_40 with other random numbers" in note for note in notes.notes) == 1
    batch = load_file(folder / "dump" / "batch.safetensors")
    assert batch["update"] == 10
    assert batch["batch.obs"].shape == batch["batch.next_obs"].shape == (32, 1, 3)
    assert (batch["batch.reward"] == np.float32(HUGE)).all()
    fresh = named_leaves(init(SMALL["sac"], Spec(3, 1), key_of(0, 0)))
    for file in ("params", "optim"):
        dumped = load_file(folder / "dump" / f"{file}.safetensors")
        assert set(dumped) == set(fresh[file])
        for name, leaf in jax.device_get(fresh[file]).items():
            assert dumped[name].tobytes() == np.asarray(leaf).tobytes(), name  # every update was refused, to the bit
    path, skipped = checkpoint.newest(folder)
    assert (path.name, skipped) == ("step_40-2", [])  # saved again when the run went back


def test_after_a_halt_the_last_good_checkpoint_is_untouched(tmp_path, monkeypatch):
    sound = update.improve

    def failing(agent, batches, key, number, scaling):
        agent, (memo, info) = sound(agent, batches, key, number, scaling)
        bad = np.float32(number >= 60) * np.ones(4, np.float32)
        return agent, (memo, {**info, "skipped": bad, "critic/loss": np.where(bad > 0, np.nan, 2.0)})

    monkeypatch.setattr(update, "improve", failing)
    monkeypatch.setattr(update, "PROBED", 0)
    before = {}

    def stop():
        for path in tmp_path.glob("*/*/*/checkpoints/*/*.safetensors"):
            before.setdefault(path, path.read_bytes())
        return False

    with pytest.raises(NumericHalt):
        train(tmp_path, stop=stop, steps=200, eval_every=0, checkpoint_every=50)
    folder = only_run(tmp_path)
    assert {path.parent.name for path in before} == {"step_50", "step_100", "step_100-2"}
    assert all(path.read_bytes() == data for path, data in before.items())
    assert checkpoint.newest(folder)[0].name == "step_100-2"
    assert checkpoint.locate(folder, "latest").name == "step_100-2"


def test_skipped_updates_do_not_enter_the_metrics(tmp_path, monkeypatch):
    sound = update.improve

    def failing(agent, batches, key, number, scaling):
        agent, (memo, info) = sound(agent, batches, key, number, scaling)
        if number != 8:
            return agent, (memo, info)
        bad = np.array([0, 1, 0, 1], np.float32)
        return agent, (memo, {**info, "skipped": bad, "critic/loss": np.where(bad > 0, np.nan, 2.0)})

    monkeypatch.setattr(update, "improve", failing)
    monkeypatch.setattr(update, "PROBED", 0)
    lines = metrics(train(tmp_path, steps=60, eval_every=0, log_every=4, eval_episodes=2).run_dir)
    (line,) = [line for line in lines if line["updates"] == 12]
    assert (line["critic/loss"], line["skipped"]) == (2.0, 2)
    assert lines[-1]["skipped"] == 2
    assert all(line["critic/loss"] is not None for line in lines if line["updates"])


def test_bad_transitions_never_enter_replay():
    """Step 3 of every episode of 5 is bad: two good steps are kept, and the episode ends as truncated."""
    env = make(lambda: Counter(length=5, fault=at(3, "obs", NAN)), num_envs=2, timeout=0.0)
    one = Trainer(SMALL["sac"], env, config(warmup_steps=10_000, normalise=True, num_envs=2), Notes().note)
    one.begin()
    for _ in range(12):
        one.advance()
    assert one.counts.env_steps == 24
    assert len(one.replay) == 16
    assert one.moments.count == 26  # two first observations, and each step's next: of 0, 1, 2, 0, 1, 2 ..
    assert env.bad == 8
    assert np.isfinite(one.obs).all()
    drawn = one.replay.sample(0, 0, (500,))
    for values in drawn[:6]:
        assert np.isfinite(values).all()
    assert set(drawn.next_obs[:, 0]) == {1.0, 2.0}
    assert (drawn.discount == 1).all()
    assert (drawn.last[drawn.next_obs[:, 0] == 2] == 1).all()
    assert [episode.length for episode in one.finished] == [2] * 8


@pytest.mark.parametrize(
    ("step", "kind", "value", "says"),
    [
        (1, "obs", NAN, "10 bad transitions in a row"),
        (3, "obs", NAN, "11 bad transitions in the last"),
        (3, "reward", float("inf"), "11 bad transitions in the last"),
        (3, "flags", (None, None), "11 bad transitions in the last"),
    ],
)
def test_too_many_of_them_end_the_run(tmp_path, step, kind, value, says):
    with pytest.raises(EnvironmentFailure, match=says) as raised:
        train(tmp_path, env=lambda: Counter(length=5, fault=at(step, kind, value)), warmup_steps=10_000, **ENDLESS)
    assert raised.value.exit_code == 5
    ended = RunFolder.open(only_run(tmp_path)).read_run()
    assert (ended["status"], ended["exit_code"], ended["error"]) == ("error", 5, raised.value.what)


def test_an_action_that_is_not_finite_halts():
    env = make("Pendulum-v1", timeout=0.0)
    env.reset()
    with pytest.raises(NumericHalt):
        env.step(act(value=np.nan))
