"""Prints a hash of each algorithm's agent after three updates on data of one task. Run it in two checkouts to compare.

    PYTHONPATH=src python tests/helpers/row_hashes.py > new
    PYTHONPATH=OTHER/src python tests/helpers/row_hashes.py > old
    diff old new

Algorithms of one version alone, and those about several tasks, are left out of a comparison.
"""

import hashlib
import sys

import jax
import jax.numpy as jnp
import numpy as np

import estep
from estep.algorithms import ALGORITHMS
from estep.core import em
from estep.core.acting import act_with_memo
from estep.core.types import OneHot

UPDATES, BATCH = 3, 4
SMALL = {"hidden_sizes": (8,), "samples": 4, "model_hidden_sizes": (8,), "members": 2, "unroll": 2, "particles": 4}
QUICKLY = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
SPECS = {"continuous": estep.Spec(3, 2), "discrete": estep.Spec(3, 2, OneHot())}


def agent_of(name, spec):
    """A small fresh agent."""
    kind = ALGORITHMS[name]
    row = kind(**{key: value for key, value in SMALL.items() if key in kind.__dataclass_fields__})
    return jax.jit(lambda key: row.init(spec, key), compiler_options=QUICKLY)(estep.make_key(0))


def batch_of(agent, seed):
    """Steps that the agent took, with what it remembers of each."""
    rng, shape = np.random.default_rng(seed), (BATCH, agent.length)
    obs, after = (jnp.asarray(rng.normal(size=(*shape, 3)), jnp.float32) for _ in range(2))
    u, _, memo = act_with_memo(agent, obs.reshape(-1, 3), estep.make_key(seed))
    part = lambda leaf: leaf.reshape(*shape, *leaf.shape[1:])
    one, reward = jnp.ones(shape), jnp.asarray(rng.normal(size=shape), jnp.float32)
    return estep.Transition(
        obs, part(u), reward, one, after, 0 * one, {name: part(x) for name, x in memo.items()} or ()
    )


def digest(name, spec):
    """The hash of all numbers of the agent after the updates."""
    agent = agent_of(name, spec)
    update = jax.jit(em.update, compiler_options=QUICKLY)
    for seed in range(UPDATES):
        agent, _ = update(agent, batch_of(agent, seed), estep.make_key(seed))
    found = hashlib.sha256()
    for leaf in jax.tree.leaves(agent):
        found.update(np.asarray(leaf).tobytes())
    return found.hexdigest()[:16]


def main():
    for name in sys.argv[1:] or ALGORITHMS:
        for label, spec in SPECS.items():
            try:
                print(name, label, digest(name, spec), flush=True)
            except estep.UsageError as error:
                print(name, label, "refused", error.what[:60], flush=True)


if __name__ == "__main__":
    main()
