"""The persistent compilation cache: what was compiled once starts at once the next time."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import jax

from estep.runs import storage


def cache_folder() -> Path:
    """Where estep keeps compiled programs: $ESTEP_CACHE_DIR, or estep/ in the user's cache folder."""
    chosen = os.environ.get("ESTEP_CACHE_DIR")
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "estep"


def use_cache() -> str | None:
    """Switch the cache on, in a folder of mode 0700, unless the user has configured JAX's own.

    Whoever can write to such a cache can run code here (JAX's documentation), so a folder that others may write to is
    refused. Returns why there is no cache, or None.
    """
    config: Any = jax.config
    if config.jax_compilation_cache_dir:
        return None
    folder = cache_folder() / "jax"
    try:
        storage.make_dir(folder)
        found = folder.stat()
    except Exception as error:
        return f"no compilation cache: {error}"
    if found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) & 0o022:
        return f"no compilation cache: others may write to {folder}"
    config.update("jax_compilation_cache_dir", str(folder))
    config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    return None
