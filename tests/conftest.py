"""Strict arithmetic for the whole suite: no silent broadcasting, no silent promotion; and one compilation cache."""

import os
import tempfile

# One thread a process: pytest-xdist already runs one process a core, and sums are then the same from run to run.
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")

import jax
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")


@pytest.fixture(scope="session", autouse=True)
def own_cache():
    """Keep compiled programs of the tests out of the user's cache; child processes inherit the setting."""
    with tempfile.TemporaryDirectory() as folder:
        before = os.environ.get("ESTEP_CACHE_DIR")
        os.environ["ESTEP_CACHE_DIR"] = before or folder
        yield
        if before is None:
            del os.environ["ESTEP_CACHE_DIR"]
