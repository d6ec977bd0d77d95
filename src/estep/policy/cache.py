"""The persistent compilation cache: a program that was compiled once starts immediately the next time."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import jax

from estep.errors import UsageError
from estep.runs import storage


class _Process:
    """What is known about this process."""

    computed = False
    """Whether estep has computed in it, or in the process from which it was forked."""
    forked = False
    """Whether it was forked from one in which estep had computed."""


def _after_fork() -> None:
    _Process.forked = _Process.computed


os.register_at_fork(after_in_child=_after_fork)


def check_process() -> None:
    """Refuse to compute in a process that was forked from one that has computed: JAX's threads are not in it, so it
    would wait for them for ever.

    Raises:
        UsageError: it was.
    """
    if _Process.forked:
        what = "This process was forked from one in which estep has computed, and JAX does not work in it."
        raise UsageError(what, "Start processes with multiprocessing.get_context('spawn').")
    _Process.computed = True


def cache_folder() -> Path:
    """The folder of compiled programs: $ESTEP_CACHE_DIR, or estep/ in the user's cache folder."""
    chosen = os.environ.get("ESTEP_CACHE_DIR")
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "estep"


def use_cache() -> str | None:
    """Enable the cache in a folder of mode 0700, unless the user has configured JAX's cache.

    Anyone who can write to the cache can run code in this process (JAX's documentation). So a folder that other users
    may write to is refused.

    Returns:
        Why there is no cache, or None.

    Raises:
        UsageError: JAX does not work in this process.
    """
    check_process()
    config: Any = jax.config
    if config.jax_compilation_cache_dir:
        return None
    folder = cache_folder().absolute() / "jax"
    try:
        storage.make_dir(folder)
        status = folder.stat()
    except Exception as error:
        return f"no compilation cache: {error}"
    if status.st_uid != os.getuid() or stat.S_IMODE(status.st_mode) & 0o022:
        return f"no compilation cache: other users may write to {folder} (run chmod 700 {folder})"
    config.update("jax_compilation_cache_dir", str(folder))
    config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    return None
