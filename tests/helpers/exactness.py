"""Makes the update of each algorithm many times on one input, at its default sizes: are the bits equal?

`python tests/helpers/exactness.py --updates 200 --out exactness.csv`; with a GPU it measures that.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import small

from estep.algorithms.named import class_of
from estep.core.acting import act_with_memo
from estep.core.em import step
from estep.core.types import Spec, Transition
from estep.runs import provenance
from estep.training.update import bits, init

OBS, ACTION = 17, 6
"""The sizes of HalfCheetah-v5."""


def repeated(name: str, updates: int) -> dict[str, object]:
    """A row: how many of the updates gave the bits of the first one."""
    agent = init(class_of(name)(), Spec(obs_dim=OBS, action_dim=ACTION), jax.random.key(0))
    chance, shape = np.random.default_rng(0), (256 // agent.length, agent.length)
    drawn = [jnp.asarray(chance.normal(size=(*shape, n)), jnp.float32) for n in (OBS, ACTION, OBS)]
    ones = jnp.ones(shape)
    acted = act_with_memo(agent, drawn[0].reshape(-1, OBS), jax.random.key(2))[2]
    memo = {name: values.reshape(*shape, -1) for name, values in acted.items()}
    batch = Transition(drawn[0], drawn[1], ones, ones, drawn[2], 0 * ones, memo)
    update = jax.jit(step)
    first = bits(update(agent, batch, jax.random.key(1)))
    equal = sum(bits(update(agent, batch, jax.random.key(1))) == first for _ in range(updates))
    here = provenance.machine()
    return {"algorithm": name, "updates": updates, "equal": equal} | {
        **{key: here[key] for key in ("threads", "device", "cpu", "flags")},
        "jax": here["versions"]["jax"],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=["sac", "iterative-sac"])
    parser.add_argument("--updates", type=int, default=200)
    parser.add_argument("--out", type=Path, help="CSV to write")
    given = parser.parse_args()
    rows = [repeated(name, given.updates) for name in given.names]
    small.report(rows, given.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
