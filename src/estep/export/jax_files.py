"""A policy as a JAX program, which needs JAX and flatbuffers to run. Every algorithm has one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.export  # a module that `import jax` does not bring along
import jax.numpy as jnp
import numpy as np

from estep.core.types import Floats
from estep.export.contract import Act, Made, Noise, Subject, contract, extra
from estep.export.native import native
from estep.export.parity import draw, reference
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
    act, size, draws = reference(subject), subject.agent.spec.obs_dim, subject.draws

    def whole(obs: Any, *numbers: Any) -> Any:
        action = act(obs)[0] if draws is None else draw(subject, obs, draws(*numbers))
        return native(subject.action_space, action)

    shaped: Any = jax.ShapeDtypeStruct
    (batch,) = jax.export.symbolic_shape("batch")
    shapes = [shaped((batch, size), jnp.float32), *([] if draws is None else [shaped((), jnp.uint32)] * 2)]
    exported = jax.export.export(jax.jit(whole), platforms=PLATFORMS)(*shapes)
    infers = one_shot(subject.agent, subject.moments) is None
    files = {
        NAME: bytes(exported.serialize()),
        "contract.json": strict.dump(contract(subject, "jax", infers), indent=1) + b"\n",
    }

    def opened(folder: Path) -> Act:
        loaded: Any = jax.export.deserialize(bytearray(reading.read_path(folder / NAME, MOST_BYTES)))

        def act(obs: Floats, noise: Noise | None) -> Any:
            return np.asarray(loaded.call(jnp.asarray(obs), *([] if draws is None else [jnp.uint32(0)] * 2)))

        return act

    return Made(files, opened, None, infers)
