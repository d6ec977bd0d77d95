"""Several environments as tasks: how they are named, what is refused, and what a step of all of them is."""

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box
from gymnasium.wrappers import TimeLimit

from estep.envs import gymnasium as envs
from estep.envs.ids import register
from estep.envs.tasks.several import alone, join
from estep.envs.tasks.sources import MOST_TASKS, Task, label, read_envs
from estep.errors import EnvironmentFailure, UsageError
from estep.policy.environments import make_env, make_pair
from estep.policy.job import QUIET
from estep.settings.references import env_text
from estep.settings.run import RunConfig

CONFIG = RunConfig(num_envs=2, eval_episodes=3)


class Line(gymnasium.Env):
    """An observation of `size` numbers, all of them `value`; it fails at the third step if `fails`."""

    def __init__(self, value=0.0, size=3, actions=1, fails=False):
        self.observation_space = Box(-9, 9, (size,), np.float32)
        self.action_space = Box(-1, 1, (actions,), np.float32)
        self.value, self.fails, self.steps = value, fails, 0

    def reset(self, *, seed=None, options=None):
        gymnasium.Env.reset(self, seed=seed)
        self.steps = 0
        return np.full(self.observation_space.shape, self.value, np.float32), {}

    def step(self, action):
        self.steps += 1
        if self.fails and self.steps == 3:
            raise ValueError("no oil")
        done = self.steps == (4 if self.value else 5)
        info = {"success": self.steps == 2} if self.value else {}
        return np.full(self.observation_space.shape, self.value, np.float32), self.value, done, False, info


def line(**given):
    return lambda: TimeLimit(Line(**given), 50)


def test_texts_name_an_environment_and_its_arguments():
    found = env_text('far=gymnasium:A-v0?x=-1.5e1&deep=true&note="a&b=c?"&none=null')
    assert (found.name, found.id, found.module) == ("far", "gymnasium:A-v0", "gymnasium")
    assert found.arguments == {"x": -15.0, "deep": True, "note": "a&b=c?", "none": None}
    assert env_text("A-v0") == ("A-v0", "A-v0", "A-v0", {})


@pytest.mark.parametrize(
    "text",
    [
        *("A?", "A?x", "A?=1", "A?x=", "A?x=1&", "A?x=1&&y=2", "A?x=1 2", "A?x=abc", "A?x=[1]", "A?x={}", "A?x=NaN"),
        *("A?x=1&x=2", "=A", " =A", "A?x=True", "A?1x=2", "A?x=Infinity", "A?x=1e999", "A?x=" + "[" * 100_000),
    ],
)
def test_a_malformed_text_is_refused_with_the_form(text):
    with pytest.raises(UsageError) as error:
        env_text(text)
    assert "value&" in error.value.fix
    assert len(error.value.what) < 500


def test_an_argument_that_the_environment_does_not_take_is_refused_with_its_message():
    with pytest.raises(UsageError, match=r"Pendulum-v1 cannot be made with gravity: .*gravity"):
        envs.make("Pendulum-v1?gravity=3")
    made = envs.make("slow=Pendulum-v1?g=1.5&max_episode_steps=7")
    assert made.envs[0].unwrapped.g == 1.5
    assert "7 steps" in made.describe()["time limit"]


def test_tasks_are_in_the_order_of_their_names():
    tasks = read_envs(["b=Pendulum-v1?g=2.0", "Pendulum-v1", "a=Pendulum-v1"])
    assert tasks == (Task("Pendulum-v1", "Pendulum-v1"), Task("a", "Pendulum-v1"), Task("b", "Pendulum-v1?g=2.0"))
    assert read_envs(tasks) == tasks == read_envs(dict(tasks))
    assert read_envs(["Pendulum-v1"]) == read_envs("Pendulum-v1") == "Pendulum-v1"
    instance = gymnasium.make("Pendulum-v1", g=2.0)
    assert [task.name for task in read_envs([instance, "Pendulum-v1"])] == ["Pendulum-v1", "Pendulum-v1?g=2.0"]


@pytest.mark.parametrize(
    ("given", "what"),
    [
        ([], "No environment"),
        (["A", "A"], "Two environments have the name 'A'"),
        (["x=A", "x=B"], "Two environments have the name 'x'"),
        ([lambda: 1, lambda: 2], "Two environments have the name '<lambda>'"),
        ([f"{i}=A" for i in range(MOST_TASKS + 1)], "65 environments"),
        (["all=A", "B"], "all cannot be the name"),
        (["a\nb=A", "B"], "cannot be the name"),
        ({"x" * 201: "A", "b": "B"}, "cannot be the name"),
        ({3: "A", "b": "B"}, "cannot be the name"),
    ],
)
def test_lists_that_are_refused(given, what):
    with pytest.raises(UsageError, match=what) as error:
        read_envs(given)
    assert error.value.fix


def test_a_long_name_is_shortened_with_a_hash():
    one, other = ([Task("x" * 90 + end, "A"), Task("y", "B")] for end in "ab")
    assert len(label(tuple(one))) == 80
    assert label(tuple(one)) != label(tuple(other))


def test_a_module_that_is_not_there_is_named():
    with pytest.raises(UsageError, match="no_such_module"):
        register("x=no_such_module:A-v0?x=1")


def test_observations_end_with_the_task_and_episodes_name_it():
    tasks = read_envs({"one": line(value=1.0), "none": line()})
    with make_pair(tasks, CONFIG, QUIET) as (training, evaluation):
        assert training.spec[:2] + training.spec[3:4] == (5, 1, 2)
        assert (training.num_envs, training.per_task, evaluation.num_envs) == (4, 2, 6)
        obs = training.reset()
        want = [[0, 0, 0, 1, 0]] * 2 + [[1, 1, 1, 0, 1]] * 2
        np.testing.assert_array_equal(obs, want)
        for _ in range(5):
            step = training.step(np.zeros((4, 1), np.float32))
            np.testing.assert_array_equal(step.next_obs, want)
            np.testing.assert_array_equal(step.obs, want)
        found = [(e.env, e.task, e.length, e.success) for e in training.finished()]
        assert found == [(2, "one", 4, 1.0), (3, "one", 4, 1.0), (0, "none", 5, None), (1, "none", 5, None)]


def test_the_seeds_of_a_task_do_not_depend_on_the_other_tasks():
    pendulum, other = "Pendulum-v1", "z=Pendulum-v1?g=3.0"
    with make_pair(read_envs([pendulum, other]), CONFIG, QUIET) as (several, _):
        with make_pair(pendulum, CONFIG, QUIET) as (single, _):
            np.testing.assert_array_equal(several.reset()[:2, :3], single.reset())


def test_unfinished_episodes_of_all_tasks_are_restored():
    tasks = read_envs(["Pendulum-v1", "z=Pendulum-v1?g=3.0"])
    with make_pair(tasks, CONFIG, QUIET) as (one, other):
        one.reset()
        for _ in range(3):
            one.step(np.full((4, 1), 0.3, np.float32))
        with make_pair(tasks, CONFIG, QUIET) as (again, _):
            obs, exact = again.restore(one.progress())
            assert exact == [True] * 4
            again.load_counters(one.counters())
            assert again.counters() == one.counters()
            action = np.full((4, 1), -0.5, np.float32)
            np.testing.assert_array_equal(again.step(action).obs, one.step(action).obs)
        del obs, other


def test_a_task_that_fails_names_itself():
    with make_pair(read_envs({"good": line(), "bad one": line(value=1.0, fails=True)}), CONFIG, QUIET) as (env, _):
        env.reset()
        action = np.zeros((4, 1), np.float32)
        for _ in range(2):
            env.step(action)
        with pytest.raises(EnvironmentFailure, match=r"bad one \(environment 0.* no oil"):
            env.step(action)


@pytest.mark.parametrize(
    ("one", "other", "what"),
    [
        ({}, {"size": 4}, "a has 3 numbers, but b has 4"),
        ({}, {"actions": 2}, "same actions, and these are 1 .* in a and 2 .* in b"),
    ],
)
def test_tasks_that_do_not_go_together_are_both_named(one, other, what):
    with pytest.raises(UsageError, match=what):
        make_env(read_envs({"a": line(**one), "b": line(**other)}), CONFIG, QUIET, 0)


def test_one_object_cannot_be_two_tasks():
    same = TimeLimit(Line(), 50)
    with pytest.raises(UsageError, match="gave the same environment twice"):
        make_env(read_envs({"a": same, "b": same}), RunConfig(), QUIET, 0)


def test_one_task_alone_has_the_number_it_has_among_all():
    env = alone(envs.make(line(value=1.0), name="b"), ["a", "b", "c"])
    np.testing.assert_array_equal(env.reset(), [[1, 1, 1, 0, 1, 0]])
    assert env.spec.tasks == 3
    with pytest.raises(UsageError, match="no task 'd'") as error:
        make_env(read_envs({"a": line(), "b": line()}), CONFIG, QUIET, 2, "d", ["a", "b"])
    assert "a, b" in error.value.fix


def test_the_half_cheetah_of_a_speed_is_paid_by_its_difference_to_it():
    env = envs.make("estep/HalfCheetahVelocity-v0?velocity=-2&ctrl_cost_weight=0.5").envs[0]
    env.reset(seed=0)
    action = np.full(6, 0.5, np.float32)
    _, reward, _, _, info = env.step(action)
    assert reward == pytest.approx(-abs(info["x_velocity"] + 2) - 0.5 * 6 * 0.25)
    with pytest.raises(UsageError, match="not a number"):
        envs.make('estep/HalfCheetahVelocity-v0?velocity="fast"')


def test_environments_that_join_are_stepped_as_one():
    parts = [envs.make(line(value=value), name=name) for name, value in (("a", 0.0), ("b", 1.0))]
    joined = join(parts, "a+b")
    joined.reset()
    assert joined.step(np.zeros((2, 1), np.float32)).reward.tolist() == [0.0, 1.0]
    assert list(joined.tasks) == ["a", "b"]
    assert joined.name == "a+b"
