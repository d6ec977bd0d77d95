"""Policies to export: agents of any algorithm with random parameters, and the spaces that they act in."""

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces

from estep import make_key
from estep.data.normalise import Moments
from estep.envs.actions import action_space
from estep.envs.observations import observation_space
from estep.export.contract import Subject
from estep.policy.saving import draws
from estep.policy.spaces import Spaces

ACTIONS = {
    "numbers": spaces.Box(np.float32([-2, 0, -1]), np.float32([1, 3, 1])),
    "one choice": spaces.Discrete(4, start=1),
    "several choices": spaces.MultiDiscrete([2, 3], start=[0, 1]),
}
PLAIN = spaces.Box(-1, 1, (5,))
DICT = spaces.Dict({"wanted": spaces.Discrete(3, start=1), "level": spaces.Box(-1, 1, (1, 2))})


def subject(algorithm, action="numbers", observation=PLAIN, tasks=0, normalise=False, drawn=False):
    """A policy with random parameters. `action` is a name in ACTIONS, or a space."""
    acts = action_space(ACTIONS.get(action, action) if isinstance(action, str) else action, "it")
    sees = observation_space(observation, "it")
    named = {f"task {i}": sees for i in range(tasks)}
    spec = Spaces(sees.size + tasks, acts, sees, named).spec
    agent = moved(algorithm.init(spec, make_key(1)))
    moments = None
    if normalise:
        moments = Moments(spec.obs_dim, tasks)
        moments.update(np.random.default_rng(0).normal(3.0, 2.0, (50, spec.obs_dim)))
    key, about = jax.random.split(make_key(5))[0], {"algorithm": "any", "environment": "any"}
    return Subject(agent, moments, acts, sees, named, key, about, draws if drawn else None)


def moved(agent):
    """The agent with all its networks moved a little, so that none of their layers is zero."""
    leaves, structure = jax.tree.flatten(agent)
    generator = np.random.default_rng(0)

    def move(leaf):
        floats = jnp.issubdtype(leaf.dtype, jnp.floating) and leaf.size > 1
        return leaf + jnp.asarray(generator.normal(0.0, 0.2, leaf.shape), leaf.dtype) if floats else leaf

    return jax.tree.unflatten(structure, [move(leaf) for leaf in leaves])
