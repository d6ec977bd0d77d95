"""`envpool:ID`: no step of a reset in replay, whole ends of episodes, and what cannot be repeated is reported."""

import sys

import numpy as np
import pytest
from commandline import command

from estep.core.types import to_one_hot
from estep.envs.guard.retry import Retries
from estep.envs.gymnasium import make
from estep.errors import UsageError
from estep.settings.references import env_text
from estep.video.backends import Backend
from estep.video.playing import Settings, open_env


def test_without_the_package_the_command_that_installs_it_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "envpool", None)
    with pytest.raises(UsageError, match="needs the package EnvPool") as error:
        make("envpool:HalfCheetah-v5")
    assert "pip install 'estep[envpool]'" in error.value.fix


def test_it_is_no_module():
    found = env_text("left=envpool:HalfCheetah-v5?frame_skip=2")
    assert (found.id, found.module, found.arguments) == ("envpool/HalfCheetah-v5", "", {"frame_skip": 2})


def test_it_is_not_made_anew_alone():
    with pytest.raises(UsageError, match="made together"):
        make("envpool:HalfCheetah-v5", retries=Retries(1))


def test_it_draws_nothing():
    with pytest.raises(UsageError, match="EnvPool steps its environments without Gymnasium") as error:
        open_env("envpool:HalfCheetah-v5", Settings(), Backend(None, ""))
    assert "gymnasium.make('HalfCheetah-v5', render_mode='rgb_array')" in error.value.fix


class TestWithThePackage:
    @pytest.fixture(autouse=True)
    def _needs_it(self):
        pytest.importorskip("envpool", reason="EnvPool is an extra")

    @pytest.mark.parametrize("name", ["envpool:HalfCheet-v5", "envpool:HalfCheetah-v9"])
    def test_an_unknown_id_names_the_nearest(self, name):
        with pytest.raises(UsageError) as error:
            make(name)
        assert "Did you mean envpool:HalfCheetah-v" in error.value.fix

    def test_an_unknown_argument_is_refused(self):
        with pytest.raises(UsageError, match="cannot be made with"):
            make("envpool:HalfCheetah-v5?feet=3")

    def test_no_transition_is_a_reset(self):
        env = make("envpool:CartPole-v1", num_envs=3, seed=1)
        obs, chance, ends = env.reset(), np.random.default_rng(0), 0
        for _ in range(200):
            step = env.step(to_one_hot(chance.integers(0, 2, (3, 1)), (2,)))
            assert (step.reward == 1.0).all()  # a step that resets has the reward 0
            # x' = x + 0.02 v: next_obs follows from obs, and where an episode ends it is its last observation
            np.testing.assert_allclose(step.next_obs[:, 0], obs[:, 0] + 0.02 * obs[:, 1], atol=1e-6)
            over = step.terminated | step.truncated
            assert (np.abs(step.next_obs[over][:, [0, 2]]) > (2.4, 0.2095)).any(1).all()
            assert (np.abs(step.obs[over]) <= 0.05).all()
            assert (step.obs[~over] == step.next_obs[~over]).all()
            obs, ends = step.obs, ends + int(over.sum())
        assert ends > 15
        assert len(env.finished()) == ends

    def test_a_time_limit_truncates_with_the_last_observation(self):
        env = make("envpool:Pendulum-v1", num_envs=2, seed=1)
        env.reset()
        steps = [env.step(np.zeros((2, 1), np.float32)) for _ in range(401)]
        assert [t for t, step in enumerate(steps) if step.truncated.all()] == [199, 399]
        assert not any(step.terminated.any() for step in steps)
        last, before = steps[199].next_obs, steps[198].next_obs
        turned = np.arctan2(last[:, 1], last[:, 0]) - np.arctan2(before[:, 1], before[:, 0])
        np.testing.assert_allclose(np.angle(np.exp(1j * turned)), 0.05 * last[:, 2], atol=1e-4)
        assert [one.length for one in env.finished()] == [200] * 4

    def test_runs_and_evaluations_are_repeatable_and_episodes_are_not(self):
        one, other = (make("envpool:HalfCheetah-v5", num_envs=3, seed=3) for _ in range(2))
        drawn = np.random.default_rng(0).uniform(-1, 1, (30, 3, 6)).astype(np.float32)
        assert one.reset().tobytes() == other.reset().tobytes()
        for action in drawn:
            for a, b in zip(one.step(action), other.step(action), strict=True):
                assert a.tobytes() == b.tobytes()
        first = one.reset(7)
        one.step(drawn[0])
        assert one.reset(7).tobytes() == first.tobytes()
        assert one.reset(8).tobytes() != first.tobytes()
        assert one.start_from(5, 1).tobytes() == other.start_from(5, 2).tobytes()
        assert "EnvPool cannot begin" in one.unrepeatable
        obs, exact = one.restore(other.progress())
        assert exact == [False] * 3
        assert (obs != other.progress()[0].obs).any()
        assert make("HalfCheetah-v5").unrepeatable == ""

    def test_half_cheetah_is_that_of_gymnasium(self):
        """States cannot be set in EnvPool, so only the means over random steps are compared."""
        rewards, sizes = [], []
        for name in ("HalfCheetah-v5", "envpool:HalfCheetah-v5"):
            env = make(name, num_envs=8, seed=2)
            env.reset()
            drawn = np.random.default_rng(1).uniform(-1, 1, (300, 8, 6)).astype(np.float32)
            steps = [env.step(action) for action in drawn]
            rewards.append(np.stack([step.reward for step in steps]).mean(0))
            sizes.append(np.abs(np.stack([step.next_obs for step in steps])).mean((0, 1)))
            assert env.describe()["time limit"] == "1000 steps"
        spread = np.sqrt(rewards[0].var(ddof=1) / 8 + rewards[1].var(ddof=1) / 8)
        assert abs(rewards[0].mean() - rewards[1].mean()) < 4 * spread
        np.testing.assert_allclose(sizes[0], sizes[1], rtol=0.25, atol=0.05)

    @pytest.mark.long
    @pytest.mark.parametrize(
        "words",
        [
            ("envpool:Pendulum-v1", "--population", "2"),
            ("left=envpool:Pendulum-v1", "right=envpool:Pendulum-v1"),
        ],
    )
    def test_it_trains_in_a_population_and_as_one_of_several_tasks(self, words, tmp_path):
        small = ("--steps", "120", "--warmup-steps", "60", "--hidden-sizes", "8", "--batch-size", "16")
        ended = command(
            "train", "sac", *small, "--eval-episodes", "1", "--run-dir", str(tmp_path / "a"), "--json", "--env", *words
        )
        assert (ended.code, ended.record["env_steps"]) == (0, 120)

    def test_a_dict_and_successes_are_read(self):
        env = make("envpool:FetchReach-v4", num_envs=2)
        assert env.spec.obs_dim == env.reset().shape[1] == 16
        for _ in range(50):
            env.step(np.zeros((2, 4), np.float32))
        assert [one.success for one in env.finished()] == [0.0, 0.0]
