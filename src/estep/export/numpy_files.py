"""A policy as NumPy files."""

from __future__ import annotations

import inspect
from pathlib import Path

import numpy as np

from estep.export import archive, inference, policy
from estep.export.contract import Act, Made, Subject, contract
from estep.export.program import program_of
from estep.runs import strict


def made(subject: Subject) -> Made:
    """The files of a policy in NumPy: arrays, the contract, and the code that acts by them.

    Args:
        subject: the policy.

    Raises:
        UsageError: what the policy does is not written out in NumPy.
    """
    program = program_of(subject.agent, subject.moments, subject.key)
    infers = program.record["kind"] not in policy.KINDS
    table = contract(subject, "npz", infers) | {"program": program.record}
    files = {
        "policy.npz": archive.npz(program.arrays),
        "contract.json": strict.dump(table, indent=1) + b"\n",
        "policy.py": inspect.getsource(policy).encode(),
    }
    if infers:  # beside policy.py, where there is no package estep
        source = inspect.getsource(inference).replace("from estep.export.policy import", "from policy import")
        files["inference.py"] = source.encode()

    def opened(folder: Path) -> Act:
        loaded = policy.load(folder / "policy.npz")
        return lambda obs: np.stack([loaded.native(loaded.action(row)) for row in obs])

    return Made(files, opened, policy.Policy(table, program.arrays), infers)
