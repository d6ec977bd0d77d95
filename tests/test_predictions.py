"""What a model predicts of episodes: against a model that is exact, and against ones that are wrong in a known way."""

import json
import shutil
from pathlib import Path

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest
from commandline import command

import estep
from estep import make_key
from estep.core.model import Prediction
from estep.core.types import Tanh
from estep.instruments import inspection
from estep.instruments.play.predictions import (
    EDGES,
    compare,
    end_chance,
    imagine,
    reliability,
    wanted_coverage,
)
from estep.instruments.play.rollouts import Episode
from estep.runs import tables

NOISE, LENGTH = 0.2, 40


class Walk(eqx.Module):
    """s' = s + 0.1 a + noise, r = s_0 + a_0, and an end with a probability that the first number says."""

    std: float = eqx.field(static=True, default=NOISE)
    shift: float = eqx.field(static=True, default=0.0)
    members: int = eqx.field(static=True, default=3)

    def predict(self, obs, action, member):
        mean = obs + 0.1 * action + self.shift
        ends = jnp.clip(0.2 + 0.1 * obs[0], 0.0, 1.0)
        return Prediction(mean, jnp.full_like(mean, self.std), obs[0] + action[0], 1.0 - ends)


def episodes(count=60, terminated=False):
    rng, made = np.random.default_rng(0), []
    for _ in range(count):
        u = rng.normal(size=(LENGTH, 2)).astype(np.float32)
        noise = NOISE * rng.normal(size=(LENGTH, 2))
        path = np.cumsum(np.concatenate([rng.normal(size=(1, 2)), 0.1 * np.tanh(u) + noise]), axis=0)
        reward = path[:-1, 0] + np.tanh(u[:, 0])
        path = path.astype(np.float32)
        made.append(Episode(path[:-1], u, reward, 0.0 * reward, path[-1], terminated))
    return made


def found(model, **options):
    return compare(model, Tanh(), episodes(**options), make_key(0), 500, steps=5)


def test_an_exact_model_errs_by_the_noise_and_covers_as_often_as_wanted():
    played = episodes()
    scale = np.concatenate([[*one.obs, one.last] for one in played]).std(0)
    for row in found(Walk()).errors:
        noise = NOISE * np.sqrt(row.steps) * np.sqrt(2 / np.pi)  # of a sum of normal numbers, in the mean of distances
        assert row.error == pytest.approx(noise * (1 / scale).mean(), rel=0.1)
        assert row.low < row.error < min(row.high, row.unchanged)
        assert row.coverage == pytest.approx(row.wanted, abs=0.04)
    assert found(Walk()).errors[0].reward < 1e-6
    assert found(Walk()).errors[1].reward > 0.01


def test_a_model_that_is_too_sure_or_wrong_is_seen():
    right, sure, wrong = found(Walk()), found(Walk(std=NOISE / 3)), found(Walk(shift=0.2))
    for k in range(5):
        assert sure.errors[k].coverage_high < 0.6
        assert sure.errors[k].error == pytest.approx(right.errors[k].error, rel=0.05)
        assert wrong.errors[k].error > 1.3 * right.errors[k].error
        assert wrong.errors[k].coverage_high < right.errors[k].coverage


def test_each_sample_follows_one_member():
    class Drift(eqx.Module):
        members: int = eqx.field(static=True, default=2)

        def predict(self, obs, action, member):
            step = jnp.where(member == 0, -1.0, 1.0)
            return Prediction(obs + step, jnp.zeros_like(obs), step, jnp.ones(()))

    seen = imagine(Drift(), Tanh(), jnp.zeros((1, 1)), jnp.zeros((1, 4, 1)), make_key(0))
    assert np.asarray(seen.low[0, :, 0]).tolist() == [-1, -2, -3, -4]
    assert np.asarray(seen.high[0, :, 0]).tolist() == [1, 2, 3, 4]
    assert np.allclose(seen.mean, 0)
    assert np.allclose(seen.reward, 0)


def test_steps_that_an_episode_does_not_have_do_not_count():
    rows = found(Walk(), count=3).errors
    starts = np.linspace(0, 3 * LENGTH - 1, 500).astype(int) if 3 * LENGTH > 500 else np.arange(3 * LENGTH)
    assert [row.states for row in rows] == [int((starts % LENGTH <= LENGTH - k).sum()) for k in range(1, 6)]


@pytest.mark.parametrize("members", [1, 2, 5, 7, 99, 200])
def test_the_interval_of_samples_has_nine_of_ten(members):
    assert wanted_coverage(members) == pytest.approx(0.9, abs=0.006)


def test_ends_are_as_frequent_as_predicted_if_the_model_is_right():
    rng = np.random.default_rng(1)
    chance = rng.uniform(size=20000) ** 3
    rows = reliability(chance, rng.uniform(size=len(chance)) < chance)
    assert sum(row.steps for row in rows) == len(chance)
    assert len(rows) == len(EDGES) - 1
    for row in rows:
        assert row.above <= row.predicted <= row.below
        assert row.low <= row.ended <= row.high
    assert sum(row.low <= row.predicted <= row.high for row in rows) >= len(rows) - 1
    (last,) = reliability(np.ones(3), np.asarray([True, True, False]))
    assert (last.above, last.below, last.ended, last.steps) == (0.8, 1.0, 2 / 3, 3)


def test_a_time_limit_is_no_end():
    assert found(Walk(), count=8).ends == 0
    ended = found(Walk(), count=8, terminated=True)
    assert ended.ends == 8
    played = episodes(8)
    chance = [end_chance(Walk(), Tanh(), one.obs, one.action).sum() for one in played]
    assert ended.predicted_ends == pytest.approx(float(sum(chance)), rel=1e-5)


def test_a_run_is_measured_twice_with_the_same_bytes(tmp_path):
    settings = {"hidden_sizes": (16, 16), "model_hidden_sizes": (16, 16), "members": 2, "horizon": 1}
    run = estep.train(
        "mve", "CartPole-v1", steps=300, warmup_steps=100, batch_size=16, eval_episodes=1, out=tmp_path, **settings
    )
    outs = [tmp_path / "a", tmp_path / "b"]
    for out in outs:
        ended = command("inspect", str(run.run_dir), "--only", "model", "--states", "20", "--out", str(out), "--json")
        assert ended.code == 0, ended.err
        assert "not_measured" in ended.record
    for name in ("model.csv", "model_endings.csv"):
        assert (outs[0] / name).read_bytes() == (outs[1] / name).read_bytes()
    assert (outs[0] / "model.png").is_file()
    rows = list(tables.cells(outs[0] / "model.csv"))
    assert rows[0]["steps"] == "1"
    assert all(np.isfinite(float(row["error"])) for row in rows)
    assert json.loads((outs[0] / "inspection.json").read_text())["model"]["ends"] == 10


def test_a_run_without_a_model_is_told(tmp_path):
    run = shutil.copytree(Path(__file__).parent / "releases" / "0.1.0" / "sac-Pendulum-v1", tmp_path / "run")
    seen = inspection.inspect_run(run, inspection.Options(only=("model",), episodes=1))
    assert seen.model is None
    assert "no model" in seen.not_measured["model"]
