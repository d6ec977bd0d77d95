"""Images: an environment that shows pixels, and a network of your own that reads them.

estep has no network for images. You give one as `features`: a function that makes it from the size of the observation
and a key. It gets the pixels as one flat vector of floats from 0 to 255, and gives a vector of features. Replay stores
each image once, as uint8.

    python own_images.py
    estep train sac --env own_images:Dot-v0 --features own_images:pixels --steps 5000
"""

import sys

import equinox as eqx
import gymnasium
import jax
import jax.numpy as jnp
import numpy as np

import estep

SHAPE = (12, 12, 3)
"""Height, width and channels of an image."""


class Dot(gymnasium.Env):
    """A bright dot on a dark square. It is pushed, and should stay in the middle."""

    observation_space = gymnasium.spaces.Box(0, 255, SHAPE, np.uint8)
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place, self.count = self.np_random.uniform(-1.0, 1.0, 2), 0
        return self._draw(), {}

    def step(self, action):
        self.place, self.count = np.clip(self.place + 0.2 * action, -1.0, 1.0), self.count + 1
        return self._draw(), -float(np.abs(self.place).mean()), False, self.count >= 30, {}

    def _draw(self):
        image = np.zeros(SHAPE, np.uint8)
        row, column = np.rint((self.place + 1.0) / 2.0 * (np.array(SHAPE[:2]) - 1)).astype(int)
        image[row, column] = 255
        return image


class Convolution(eqx.Module):
    """Two strided convolutions."""

    kernels: tuple[jax.Array, jax.Array]

    def __call__(self, obs):
        image = obs.reshape(1, *SHAPE) / 255.0
        for kernel in self.kernels:
            layout = ("NHWC", "HWIO", "NHWC")
            image = jax.nn.relu(jax.lax.conv_general_dilated(image, kernel, (2, 2), "SAME", dimension_numbers=layout))
        return image.ravel()


def pixels(obs_dim, key):
    """A fresh network in front of each network of an algorithm."""
    first, second = jax.random.split(key)
    scale = jnp.sqrt(2.0 / 27.0)
    return Convolution((scale * jax.random.normal(first, (3, 3, 3, 8)), 0.2 * jax.random.normal(second, (3, 3, 8, 8))))


gymnasium.register("Dot-v0", entry_point=Dot)

if __name__ == "__main__":
    steps = int(sys.argv[1]) if len(sys.argv) > 1 else 5_000
    small = {"steps": steps, "warmup_steps": min(500, steps // 2), "hidden_sizes": (32,), "batch_size": 32}
    policy = estep.train("sac", Dot, features=pixels, replay_size=steps, eval_episodes=3, **small)
    env = Dot()
    obs, _ = env.reset(seed=0)
    for _ in range(20):
        obs, reward, *_ = env.step(policy.act(obs))
    print(f"after 20 steps the dot is at {env.place.round(2)}; run in {policy.run_dir}")
