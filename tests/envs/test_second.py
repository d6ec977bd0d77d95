"""The second environment, for evaluation: a true copy of the first, or a clear refusal before training."""

import gymnasium
import numpy as np
import pytest
from faulty import Counter, Plain

from estep.envs.build import build
from estep.envs.guard.watch import UNWATCHED
from estep.envs.second import build_again, expression, independent
from estep.errors import EnvironmentFailure, UsageError
from estep.policy.environments import compare_starts, make_pair
from estep.policy.job import QUIET
from estep.settings.run import RunConfig

CONFIG = RunConfig(eval_episodes=2, env_timeout=0)


class Configured(Plain):
    """Its task is an attribute that can be set after it was made."""

    def __init__(self, gain=1.0):
        super().__init__()
        self.gain = gain

    def step(self, action):
        obs, reward, *rest = super().step(action)
        return obs, self.gain * reward, *rest


class Wrapped(gymnasium.Wrapper):
    """A wrapper of somebody's own, which a spec does not know."""


class Server:
    """One state for all its clients. A copy of a client has the same server."""

    value = 0.0

    def __deepcopy__(self, memo):
        return self


class Client(Plain):
    def __init__(self):
        super().__init__()
        self.server = Server()

    def reset(self, **options):
        self.server.value = 0.0
        return super().reset(**options)

    def step(self, action):
        self.server.value += float(action[0])
        obs, _, *rest = super().step(action)
        return obs, self.server.value, *rest


@pytest.fixture
def point():
    gymnasium.register("Configured-v0", Configured)
    yield gymnasium.make("Configured-v0", gain=3.0)
    del gymnasium.registry["Configured-v0"]


def second(env):
    (made,) = build_again(env, 5, [env])
    assert made.unwrapped is not env.unwrapped
    return made


def reward(env):
    env.reset(seed=0)
    return env.step(np.zeros(1, np.float32))[1]


def test_an_instance_that_gymnasium_made_is_made_again(point):
    assert reward(second(point)) == 3.0


def test_what_was_set_after_it_was_made_is_copied(point):
    point.unwrapped.gain = 5.0
    assert reward(second(point)) == 5.0
    point.unwrapped.inner = Configured(2.0)  # an object of its own is looked into
    point.unwrapped.inner.gain = 7.0
    assert second(point).unwrapped.inner.gain == 7.0


def test_what_is_set_in_a_dict_of_arrays_is_seen(point):
    point.unwrapped.settings = {"limits": [np.zeros(2), np.ones(2)]}
    assert second(point).unwrapped.settings["limits"][1].tolist() == [1.0, 1.0]


def test_an_instance_is_not_closed_through_a_copy_and_a_reset_that_raises_is_left_to_training(point):
    class Shared(Configured):
        display = True

        def close(self):
            Shared.display = False

    gymnasium.register("Shared-v0", Shared)
    env = gymnasium.make("Shared-v0")
    env.unwrapped.gain = 5.0
    assert reward(second(env)) == 5.0
    assert Shared.display

    env.unwrapped.np_random_seed_of_mine = 1
    Shared.reset = lambda self, **options: 1 / 0
    assert second(env)
    del gymnasium.registry["Shared-v0"]


def test_a_wrapper_of_ones_own_and_an_instance_without_a_spec_are_copied(point):
    assert reward(second(Wrapped(point))) == 3.0
    assert reward(second(Configured(gain=4.0))) == 4.0


def test_a_copy_that_shares_a_server_is_refused():
    env = Client()
    assert not independent(Client(), env, UNWATCHED) or env.server is not Client().server
    with pytest.raises(UsageError, match="neither be made again nor copied") as error:
        second(env)
    assert "Client(...)" in error.value.fix
    assert "eval_episodes=0" in error.value.fix


def test_a_difference_that_cannot_be_copied_is_told(point):
    point.unwrapped.gain = 5.0
    point.unwrapped.lock = (lock for lock in ())  # a generator cannot be copied
    with pytest.warns(RuntimeWarning, match="differs from the instance in gain"):
        assert reward(second(point)) == 3.0


def test_a_method_set_on_an_instance_would_step_the_original(point):
    env = Wrapped(point)
    env.step = lambda action, step=env.step: step(action)
    with pytest.raises(UsageError) as error:
        second(env)
    assert 'lambda: Wrapped(gymnasium.make("Configured-v0"))' in error.value.fix


def test_the_line_to_type_has_the_users_classes(point):
    assert expression(Wrapped(Configured())) == "Wrapped(Configured(...))"
    assert expression(point) == 'gymnasium.make("Configured-v0")'


def test_a_function_must_make_a_new_environment_at_each_call():
    env = Counter()
    with pytest.raises(UsageError, match="gave the same environment twice"):
        build(lambda: env, 2)
    with pytest.raises(UsageError, match="gave the same environment twice"):
        build_again(lambda: Wrapped(env), 1, build(lambda: Wrapped(env), 1))


def test_a_device_that_opens_once_is_found_before_training():
    taken = []

    def robot():
        if taken:
            raise OSError("device busy")
        taken.append(1)
        return Counter()

    with pytest.raises(EnvironmentFailure, match="device busy") as error, make_pair(robot, CONFIG, QUIET):
        pass
    assert "--eval-episodes 0" in error.value.fix
    taken.clear()
    without = RunConfig(eval_episodes=0, env_timeout=0)
    with make_pair(robot, without, QUIET) as (training, evaluation):
        assert training.reset().shape == (1, 3)
        assert evaluation is None


def test_other_spaces_of_evaluation_are_refused():
    highs = iter([1.0, 2.0, 2.0])
    boxes = (gymnasium.spaces.Box(-high, high, (1,), np.float32) for high in highs)
    with pytest.raises(UsageError, match="but that of evaluation is"):
        with make_pair(lambda: Counter(act=next(boxes)), CONFIG, QUIET):
            pass


def test_other_starts_are_told():
    calls = []

    def task():
        calls.append(1)
        env = Plain()
        env.tells_episode = len(calls) > 1  # only the copies tell the episode
        env.episode = 3
        return env

    for made, told in ((Plain, False), (task, True)):
        with make_pair(made, CONFIG, QUIET) as (training, evaluation):
            note = compare_starts(training, evaluation, training.reset())
            assert bool(note) == told


def test_both_stay_open_to_the_end_and_an_instance_of_the_user_stays_open_for_good():
    class Window(Plain):
        closed = 0

        def close(self):
            Window.closed += 1

    mine = Window()
    for source, count in ((Window, 3), (mine, 1)):
        Window.closed = 0
        with make_pair(source, CONFIG, QUIET) as (training, evaluation):
            training.reset(), evaluation.reset()
            assert Window.closed == 0
        assert Window.closed == count
