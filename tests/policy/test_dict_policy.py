"""A policy of a dict environment with several choices: trained, saved, loaded and resumed as any other."""

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

import estep
from estep.errors import UsageError

TINY = {"warmup_steps": 40, "hidden_sizes": (8,), "batch_size": 16, "updates_per_step": 0.25, "updates_per_call": 4}
TINY |= {"replay_size": 500, "eval_every": 0, "checkpoint_every": 0, "eval_episodes": 1, "preset": "none"}


class Lights(gymnasium.Env):
    """Two lights and a number that is to be dialled; the sum of what is right is paid."""

    observation_space = spaces.Dict({"wanted": spaces.Discrete(3, start=1), "level": spaces.Box(-1, 1, (1, 2))})
    action_space = spaces.MultiDiscrete([2, 3], start=[0, 1])

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.count = 0
        return self._see(), {}

    def step(self, action):
        assert self.action_space.contains(action), action
        self.count += 1
        reward = float(action[1] == self.wanted) + float(action[0] == 1)
        return self._see(), reward, False, self.count >= 10, {}

    def _see(self):
        self.wanted = int(self.np_random.integers(1, 4))
        return {"wanted": self.wanted, "level": np.full((1, 2), self.count / 10, np.float32)}


def test_it_acts_on_dicts_wherever_it_is_made(tmp_path):
    policy, env = estep.train("sac", Lights, steps=120, out=tmp_path, **TINY), Lights()
    obs, _ = env.reset(seed=0)
    env.step(policy.act(obs))
    env.step(policy.act(obs, deterministic=False, seed=1))
    saved = estep.load(policy.save(tmp_path / "saved"))
    many = {"wanted": [1, 2, 3], "level": np.zeros((3, 1, 2))}
    for one in (policy, saved):
        assert one.act(many).shape == (3, 2)
        assert one.act(many).dtype == np.int64
        with pytest.raises(UsageError, match="'level' is missing"):
            one.act({"wanted": 1})
        assert one.evaluate(1, env=Lights).lengths == [10]
    assert (saved.act(many) == policy.act(many)).all()
    longer = estep.resume(policy.run_dir, steps=160, env=Lights)
    assert estep.load(longer.run_dir, "latest").env_steps == 160
    assert "truncated" not in (policy.run_dir / "run.json").read_text()


@pytest.mark.long
def test_one_discrete_action_is_an_integer_that_a_dict_takes(tmp_path):
    policy = estep.train("sac", "FrozenLake-v1", steps=60, out=tmp_path, **TINY)
    action = policy.act(0)
    assert (type(action), {0: 1, 1: 1, 2: 1, 3: 1}[action]) == (np.int64, 1)
    assert policy.act([0, 5]).shape == (2,)
    with pytest.raises(UsageError, match="16 choices"):
        policy.act(16)
    env = gymnasium.make("FrozenLake-v1")
    env.reset(seed=0)
    env.step(action)
