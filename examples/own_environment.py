"""An environment of your own: train on it, and look at what the policy does.

Anything with the interface of `gymnasium.Env` will do. The class itself is the function that makes it.

    python own_environment.py
    estep check-env own_environment:Cart-v0      # for ids that the module registers
    estep train sac --env own_environment:Cart-v0 --steps 5000
"""

import sys

import gymnasium
import numpy as np

import estep


class Cart(gymnasium.Env):
    """A cart on a line. It is pushed, and should stand still at 0."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.position, self.speed, self.count = self.np_random.uniform(-1.0, 1.0), 0.0, 0
        return self._see(), {}

    def step(self, action):
        self.speed = 0.9 * self.speed + 0.1 * float(action[0])
        self.position, self.count = self.position + self.speed, self.count + 1
        return self._see(), -abs(self.position), False, self.count >= 50, {}

    def _see(self):
        return np.array([self.position, self.speed], np.float32)


gymnasium.register("Cart-v0", entry_point=Cart)

if __name__ == "__main__":
    steps = int(sys.argv[1]) if len(sys.argv) > 1 else 5_000
    small = {"steps": steps, "warmup_steps": min(500, steps // 2), "hidden_sizes": (64, 64), "batch_size": 64}
    policy = estep.train("sac", Cart, eval_every=1_000, **small)
    env = Cart()
    obs, _ = env.reset(seed=0)
    for _ in range(20):
        obs, reward, *_ = env.step(policy.act(obs))
    print(f"after 20 steps the cart is at {env.position:.3f}; run in {policy.run_dir}")
