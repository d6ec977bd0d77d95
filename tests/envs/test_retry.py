"""--retry-env: an environment that fails is made anew, its episode is truncated, and the run goes on."""

import numpy as np
import pytest
from child import Notes, metrics, only_run, resume, train
from faulty import Counter, Plain, act

from estep.envs.guard import retry
from estep.envs.guard.retry import Retries
from estep.envs.gymnasium import make
from estep.errors import EnvironmentFailure, UsageError
from estep.runs import checkpoint

pytestmark = pytest.mark.filterwarnings("ignore:.*It is made anew", "ignore:.*close.* raised")
WARM = {"steps": 80, "warmup_steps": 80, "checkpoint_every": 40, "eval_every": 0, "eval_episodes": 0, "log_every": 40}


def failing(where="step", at=(3,), length=5):
    """A class of environments that raise at some calls of one kind, counted over all of them."""

    class Fails(Counter):
        calls, made, closed = 0, 0, 0

        def __init__(self):
            Fails.made += 1
            if where == "construction":
                Fails.fail()
            super().__init__(length=length)

        @classmethod
        def fail(cls):
            cls.calls += 1
            if cls.calls in at:
                raise RuntimeError("connection lost")

        def step(self, action):
            if where == "step":
                self.fail()
            return super().step(action)

        def reset(self, **options):
            if where == "reset":
                self.fail()
            return super().reset(**options)

        def close(self):
            Fails.closed += 1
            raise OSError("not connected")

    return Fails


def test_ten_minutes_later_the_next_retry_is_allowed(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(retry.time, "monotonic", lambda: now[0])
    retries = Retries(2)
    assert [retries.allowed() for _ in range(3)] == [True, True, False]
    now[0] = 599.0
    assert not retries.allowed()
    now[0] = 600.0
    assert [retries.allowed() for _ in range(3)] == [True, True, False]
    assert retries.total == 4
    assert not Retries(0).allowed()


def test_the_episode_of_a_failed_step_is_truncated_at_its_last_good_step():
    kind = failing(at=(3,))
    env = make(kind, num_envs=2, timeout=0.0, retries=Retries(1))
    first = env.reset()
    env.step(act(2))  # calls 1 and 2
    step = env.step(act(2))  # call 3 fails
    assert step.valid.tolist() == [False, True]
    assert (step.truncated.tolist(), step.terminated.tolist()) == ([True, False], [False, False])
    assert step.next_obs[0, 0] == 1.0  # where it was after the last good step
    assert step.obs[:, 0].tolist() == [0.0, 2.0]
    (episode,) = env.finished()
    assert (episode.env, episode.length, episode.number) == (0, 1, 0)
    assert env.progress()[0].episode == 1
    assert (kind.made, kind.closed, env.retries) == (3, 1, 1)
    assert np.isfinite(first).all()
    kind.calls = 2
    with pytest.raises(EnvironmentFailure, match="connection lost"):
        env.step(act(2))


@pytest.mark.parametrize(("where", "at"), [("step", (30, 50)), ("reset", (4, 5)), ("construction", (2,))])
@pytest.mark.parametrize("num_envs", [1, 3])
def test_a_run_goes_on(where, at, num_envs, tmp_path):
    kind = failing(where, at)
    if where == "construction":  # the environment that takes the place of a failed one fails itself
        kind = type("Both", (failing("step", (30,)),), {})
        init, made = kind.__init__, []

        def fails(self):
            made.append(self)
            init(self)
            if len(made) == num_envs + 1:
                raise RuntimeError("port in use")

        kind.__init__ = fails
    result = train(tmp_path, env=kind, num_envs=num_envs, retry_env=2, **WARM)
    assert (result.status, result.env_steps) == ("done", -(-80 // num_envs) * num_envs)
    assert metrics(result.run_dir)[-1]["data/retries"] == 2
    loaded = checkpoint.load(checkpoint.newest(result.run_dir)[0], None, None)
    assert loaded.meta["bad"]["retries"] == [2]
    notes = Notes()
    again = resume(result.run_dir, env=failing("step", ()), steps=99, report=notes)
    assert again.status == "done"
    assert metrics(result.run_dir)[-1]["data/retries"] == 2


def test_several_tasks_share_the_retries(tmp_path):
    from estep.envs.tasks.sources import read_envs

    kinds = failing("step", (20,)), failing("step", (30,))
    tasks = read_envs({"one": kinds[0], "other": kinds[1]})
    result = train(tmp_path / "two", env=tasks, retry_env=2, **WARM)
    assert metrics(result.run_dir)[-1]["data/retries"] == 2
    kinds = failing("step", (20,)), failing("step", (30,))
    with pytest.raises(EnvironmentFailure, match="connection lost"):
        train(tmp_path / "one", env=read_envs({"one": kinds[0], "other": kinds[1]}), retry_env=1, **WARM)


def test_without_retries_the_first_failure_ends_the_run(tmp_path):
    with pytest.raises(EnvironmentFailure, match="connection lost"):
        train(tmp_path, env=failing("step", (30,)), **WARM)
    lines = metrics(only_run(tmp_path))
    assert not any("data/retries" in line for line in lines)


def test_an_evaluation_repeats_the_whole_episode():
    from estep.envs.build import EVAL

    env = make(failing(at=(3, 9), length=5), timeout=0.0, stream=EVAL, retries=Retries(2))
    env.reset(7)
    done = []
    for _ in range(30):
        env.step(act())
        done += env.finished()
        if len(done) == 2:
            break
    assert [(episode.number, episode.length, episode.total) for episode in done] == [(7, 5, 15.0), (8, 5, 15.0)]
    assert env.retries == 2


def test_ten_bad_transitions_in_a_row_are_a_failure_too():
    class Cold(Plain):
        made = 0

        def __init__(self):
            Cold.made += 1
            bad = Cold.made == 1
            super().__init__(length=50, fault=lambda env, kind, value: np.nan if bad and kind == "reward" else value)

    env = make(Cold, timeout=0.0, retries=Retries(1))
    env.reset()
    for _ in range(40):
        step = env.step(act())
    assert step.valid.all()
    assert (env.bad, env.retries) == (10, 1)


def test_one_instance_cannot_be_made_anew():
    with pytest.raises(UsageError, match="is one instance"):
        make(Counter(), timeout=0.0, retries=Retries(1))
    assert make(Counter(), timeout=0.0, retries=Retries(0))


def test_other_spaces_are_refused():
    class Grows(Counter):
        made = 0

        def __init__(self):
            Grows.made += 1
            super().__init__()
            if Grows.made > 1:
                import gymnasium

                self.observation_space = gymnasium.spaces.Box(-1, 1, (4,))

        def step(self, action):
            raise RuntimeError("connection lost")

    env = make(Grows, timeout=0.0, retries=Retries(3))
    env.reset()
    with pytest.raises(EnvironmentFailure, match="has other spaces"):
        env.step(act())
