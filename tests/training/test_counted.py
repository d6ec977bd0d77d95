"""What `--normalise` counts: every observation that is acted on, so the first of each episode."""

import gymnasium
import numpy as np
from child import SMALL, Notes, config

from estep.data.normalise import normalise
from estep.envs.gymnasium import make
from estep.training.trainer import Trainer


class OneStep(gymnasium.Env):
    """A contextual bandit: an episode is one step, and its last observation is all zeros."""

    observation_space = gymnasium.spaces.Box(-100.0, 100.0, (3,))
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.np_random.normal(5.0, 10.0, 3).astype(np.float32), {}

    def step(self, action):
        return np.zeros(3, np.float32), 1.0, True, False, {}


def test_the_first_observation_of_an_episode_counts():
    env = make(OneStep, num_envs=2, timeout=0.0)
    one = Trainer(SMALL["sac"], env, config(warmup_steps=10_000, normalise=True, num_envs=2), Notes().note)
    one.begin()
    acted_on = [one.obs]
    for _ in range(250):
        one.advance()
        acted_on.append(one.obs)
    rows = np.concatenate(acted_on)
    np.testing.assert_allclose(one.moments.variance, rows.var(0, dtype=np.float64), rtol=1e-6)
    seen = np.asarray(normalise(rows, *one.scaling))
    np.testing.assert_allclose(seen.mean(0), 0.0, atol=1e-4)
    np.testing.assert_allclose(seen.var(0), 1.0, rtol=1e-3)
