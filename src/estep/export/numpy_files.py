"""A policy as NumPy files."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from estep.core.types import Floats
from estep.export import archive, inference, policy
from estep.export.contract import Act, Made, Noise, Subject, contract
from estep.export.drawn import drawing
from estep.export.drawn.noise import Fed
from estep.export.drawn.program import program as program_of
from estep.runs import strict


def made(subject: Subject) -> Made:
    """The files of a policy in NumPy: arrays, the contract, and the code that acts by them.

    Args:
        subject: the policy.

    Raises:
        UsageError: what the policy does is not written out in NumPy.
    """
    program = program_of(subject)
    infers = program.record["kind"] not in policy.KINDS
    table = contract(subject, "npz", infers) | {"program": program.record}
    files = {
        "policy.npz": archive.npz(program.arrays),
        "contract.json": strict.dump(table, indent=1) + b"\n",
        "policy.py": inspect.getsource(policy).encode(),
    }
    drawn = subject.draws is not None
    # beside policy.py, where there is no package estep
    files |= {"inference.py": _alone(inference)} if infers or drawn else {}
    files |= {"drawing.py": _alone(drawing)} if drawn else {}

    def opened(folder: Path) -> Act:
        loaded = policy.load(folder / "policy.npz")
        freely: tuple[Any, ...] = loaded.drawn

        def one(row: Any, numbers: Any) -> Any:
            loaded.drawn = freely if numbers is None else (Fed(numbers),)
            return loaded.native(loaded.action(row))

        def act(obs: Floats, noise: Noise | None) -> Any:
            return np.stack([one(row, None if noise is None else noise[i]) for i, row in enumerate(obs)])

        return act

    return Made(files, opened, policy.Policy(table, program.arrays), infers)


def _alone(module: ModuleType) -> bytes:
    """A file of this package as it stands beside policy.py."""
    return re.sub(r"from estep\.export\.(\w+) import", r"from \1 import", inspect.getsource(module)).encode()
