"""What leaves a policy: a folder of its own, and what is exported."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax

from estep.core.keys import make_key
from estep.core.types import Key
from estep.errors import UsageError
from estep.export.contract import Subject
from estep.policy.actor import ACT
from estep.policy.spaces import space_record
from estep.runs import checkpoint, config_file, provenance, storage
from estep.runs.folder import RunFolder
from estep.settings import arguments

if TYPE_CHECKING:
    from estep.policy.policy import Policy


def save(policy: Policy, path: Path | str, *, optimisers: bool = True) -> Path:
    """Write a policy into a new folder, as `Policy.save` says. Returns its path.

    Args:
        policy: the policy.
        path: the folder.
        optimisers: whether the states of optimisers are written. Without them the folder is smaller.

    Raises:
        UsageError: the folder exists, or the policy was changed, so that no configuration describes it.
        StorageFailure: the disk is full, read-only or failing.
    """
    if policy.origin is not None:
        what = "This policy was changed after its training, so no configuration describes its agent."
        raise UsageError(what, "Save the policy before `changed`.")
    folder = arguments.path("path", path).absolute()
    if not storage.claim_dir(folder):
        raise UsageError(f"{folder} exists, so nothing was written.", "Give the path of a new folder.")
    saved = RunFolder(folder)
    files = policy.arrays()
    if not optimisers:
        del files["optim"]
    if policy.moments is not None:
        files["stats"] = dict(policy.moments.arrays())
    meta = {"counts": {"env_steps": policy.env_steps, "updates": policy.updates}, **space_record(policy.spaces)}
    saved.write_config(config_file.encode(policy.recipe), config_file.differences(policy.recipe))
    checkpoint.set_best(folder, int(checkpoint.save(folder, policy.env_steps, files, meta, None).name[5:]))
    described = provenance.describe(["estep.Policy.save"], {"run": policy.recipe.run.seed})
    saved.write_run({**described, "status": "policy", "exit_code": 0, "ended": provenance.now()})
    return folder


def draws(seed: Any, counter: Any) -> Key:
    """The key of `Policy.act`, which may be traced.

    Args:
        seed, counter: those of `Policy.act`.
    """
    return jax.random.fold_in(jax.random.fold_in(make_key(seed), ACT), counter)


def subject_of(policy: Policy, checkpoint: str, *, drawn: bool = False) -> Subject:
    """What is exported of a policy.

    Args:
        policy: the policy.
        checkpoint: the hash of its checkpoint.
        drawn: whether its actions are drawn; otherwise they are deterministic.
    """
    key = jax.random.split(draws(0, 0), 1)[0]  # as `act` has it for one observation, with its defaults
    about = {"algorithm": policy.recipe.name, "environment": policy.recipe.env, "env_steps": policy.env_steps}
    about |= {"updates": policy.updates, "checkpoint_sha256": checkpoint}
    spaces = policy.action_space, policy.observation_space, policy.tasks
    return Subject(policy.agent, policy.moments, *spaces, key, about, draws if drawn else None)
