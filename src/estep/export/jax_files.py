"""A policy as a JAX program, which needs JAX and flatbuffers to run. Every algorithm has one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.export  # a module that `import jax` does not bring along
import jax.numpy as jnp
import numpy as np

from estep.core.types import Floats
from estep.export.contract import Act, Made, Subject, contract, extra
from estep.export.native import native
from estep.export.parity import reference
from estep.export.program import one_shot
from estep.runs import reading, strict

NAME = "policy.jaxexport"
PLATFORMS = "cpu", "cuda", "tpu"
MOST_BYTES = 1 << 30


def made(subject: Subject) -> Made:
    """The files of a policy as a JAX program of any number of observations, and the contract.

    Args:
        subject: the policy.
    """
    extra("flatbuffers", "jax-export")
    act, size = reference(subject), subject.agent.spec.obs_dim

    def whole(obs: Any) -> Any:
        return native(subject.action_space, act(obs)[0])

    shaped: Any = jax.ShapeDtypeStruct
    (batch,) = jax.export.symbolic_shape("batch")
    shape = shaped((batch, size), jnp.float32)
    exported = jax.export.export(jax.jit(whole), platforms=PLATFORMS)(shape)
    infers = one_shot(subject.agent, subject.moments) is None
    files = {
        NAME: bytes(exported.serialize()),
        "contract.json": strict.dump(contract(subject, "jax", infers), indent=1) + b"\n",
    }

    def opened(folder: Path) -> Act:
        loaded: Any = jax.export.deserialize(bytearray(reading.read_path(folder / NAME, MOST_BYTES)))

        def act(obs: Floats) -> Any:
            return np.asarray(loaded.call(jnp.asarray(obs)))

        return act

    return Made(files, opened, None, infers)
