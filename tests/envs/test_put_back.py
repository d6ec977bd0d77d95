"""States that are put back into a simulator: the steps after it are the same, bit for bit."""

import gymnasium
import numpy as np
import pytest
from gymnasium.wrappers import RescaleAction, StickyAction, TimeAwareObservation, TimeLimit

from estep.envs import gymnasium as envs
from estep.envs.restore import Simulator
from estep.errors import NumericHalt, UsageError

TASKS = [
    "Ant-v5",
    "HalfCheetah-v5",
    "Hopper-v5",
    "Humanoid-v5",
    "HumanoidStandup-v5",
    "InvertedDoublePendulum-v5",
    "InvertedPendulum-v5",
    "Pusher-v5",
    "Reacher-v5",
    "Swimmer-v5",
    "Walker2d-v5",
    "Pendulum-v1",
    "MountainCarContinuous-v0",
]


def played(env, actions):
    """Steps without any put-back, and the state before each."""
    simulator = Simulator(env)
    steps = []
    for action in actions:
        states = simulator.save()
        step = env.step(action[None])
        steps.append((states[0], step))
        if step.terminated[0] or step.truncated[0]:
            break
    return simulator, steps


@pytest.mark.parametrize("task", TASKS)
def test_what_follows_a_state_that_is_put_back_is_what_followed_it(task):
    env = envs.make(task)
    env.reset()
    random = np.random.default_rng(0)
    actions = (0.4 * random.uniform(-1, 1, (30, env.spec.action_dim))).astype(np.float32)
    simulator, steps = played(env, actions)
    for t in (len(steps) // 2, 0):
        state = steps[t][0]
        for action, (_, expected) in zip(actions[t:], steps[t:], strict=False):
            moved = simulator.step([state], action[None])
            state = moved.states[0]
            assert state.obs.tobytes() == expected.next_obs[0].tobytes()
            assert np.float32(moved.reward[0]) == expected.reward[0]
    simulator.check_exact(steps[0][0], env.spec.action_dim)
    env.close()


class Walk(gymnasium.Env):
    """A walk with noise, which counts its own steps in secret: the reward is that count."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (1,), np.float64)
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        gymnasium.Env.reset(self, seed=seed)
        self.place, self.count = np.zeros(1), 0
        return self.place.copy(), {}

    def step(self, action):
        self.place = self.place + action + self.np_random.normal()
        self.count += 1
        return self.place.copy(), float(self.count), False, False, {}


class Whole(Walk):
    """Saves all that `step` depends on."""

    def save_state(self):
        return self.place.copy(), self.count, self.np_random.bit_generator.state

    def load_state(self, state):
        self.place, self.count, self.np_random.bit_generator.state = state


class NoCount(Whole):
    """Forgets the count."""

    def load_state(self, state):
        self.place, _, self.np_random.bit_generator.state = state


class NoNoise(Whole):
    """Forgets the random generator."""

    def load_state(self, state):
        self.place, self.count, _ = state


class Halved(gymnasium.Wrapper):
    """Pays half, and keeps nothing."""

    def step(self, action):
        obs, reward, *ends = self.env.step(action)
        return obs, reward / 2, *ends


class Delayed(gymnasium.Wrapper):
    """Pays one step later, so that it keeps a reward, from its first `reset` on."""

    def reset(self, **given):
        self.owed = 0.0
        return self.env.reset(**given)

    def step(self, action):
        paid, (obs, self.owed, *ends) = self.owed, self.env.step(action)
        return obs, paid, *ends


def begun(make, **options):
    env = envs.make(make, **options)
    env.reset()
    return env


def test_an_environment_of_ones_own_says_how_its_state_is_saved():
    env = begun(Whole)
    simulator, steps = played(env, np.full((6, 1), 0.5, np.float32))
    states = [state for state, _ in steps[2:4]]
    for _ in range(2):  # a state is not changed by steps from it
        moved = simulator.step(states, np.full((2, 1), 0.5, np.float32))
        assert [float(r) for r in moved.reward] == [3.0, 4.0]
        assert [state.length for state in moved.states] == [3, 4]
        assert moved.states[0].obs.tobytes() == steps[2][1].next_obs[0].tobytes()
        assert not any(moved.ended)
    simulator.check_exact(states[0], 1)


@pytest.mark.parametrize("kind", [NoCount, NoNoise])
def test_a_part_of_the_state_that_is_not_saved_is_found(kind):
    simulator = Simulator(begun(kind))
    with pytest.raises(UsageError, match="does not continue in the same way"):
        simulator.check_exact(simulator.save()[0], 1)


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (Walk, "Walk"),
        (lambda: TimeAwareObservation(gymnasium.make("Pendulum-v1")), "TimeAwareObservation"),
        (lambda: StickyAction(Whole(), 0.5), "StickyAction"),
    ],
)
def test_what_cannot_save_its_state_is_refused_by_name(make, named):
    with pytest.raises(UsageError, match=f"^{named} of .* cannot save and load its state"):
        Simulator(envs.make(make))


def test_a_wrapper_of_ones_own_that_keeps_nothing_needs_no_methods():
    env = begun(lambda: Halved(Whole()))
    simulator, steps = played(env, np.zeros((4, 1), np.float32))
    state = steps[2][0]
    assert simulator.step([state], np.zeros((1, 1), np.float32)).reward == [1.5]
    simulator.check_exact(state, 1)


def test_a_wrapper_that_keeps_something_from_its_first_step_on_is_refused():
    env = envs.make(lambda: Delayed(Whole()))
    simulator = Simulator(env)  # nothing is seen yet
    env.reset()
    with pytest.raises(UsageError, match=r"^Delayed of .* cannot save and load its state"):
        simulator.check_exact(simulator.save()[0], 1)


def test_the_steps_before_a_time_limit_are_part_of_the_state():
    env = begun(lambda: TimeLimit(RescaleAction(Whole(), np.float32(-2.0), np.float32(2.0)), 4))
    simulator, steps = played(env, np.zeros((4, 1), np.float32))
    assert simulator.limit == 4
    nought = np.zeros((2, 1), np.float32)
    moved = simulator.step([steps[3][0], steps[1][0]], nought)
    assert (moved.ended, moved.terminated) == ([True, False], [False, False])
    assert simulator.step(moved.states[1:], nought[1:]).ended == [False]


def test_a_cut_of_estep_counts_the_steps_of_the_state():
    env = begun(Whole, max_episode_steps=3)
    simulator, steps = played(env, np.zeros((3, 1), np.float32))
    assert simulator.limit == 3
    assert simulator.step([steps[2][0], steps[1][0]], np.zeros((2, 1), np.float32)).ended == [True, False]


def test_an_action_that_is_not_finite_is_refused():
    simulator = Simulator(begun(Whole))
    with pytest.raises(NumericHalt):
        simulator.step(simulator.save(), np.full((1, 1), np.nan, np.float32))


def test_a_state_of_a_longer_episode_than_any_before_is_taken():
    """The record of actions of an environment has room for as many steps as it has taken itself."""
    simulator = Simulator(begun(Whole))
    state = simulator.save()[0]._replace(length=1000)
    assert simulator.step([state], np.zeros((1, 1), np.float32)).states[0].length == 1001
