"""Strict arithmetic for the whole suite: no silent broadcasting, no silent promotion; compiled programs are kept."""

import gc
import os
import re
import tempfile
from importlib import metadata

# Child processes and the workers of pytest-xdist inherit these.
# One thread a process: there is a worker for each core, and sums are then the same from run to run.
# No costly passes of LLVM and no fusion emitters: most of the suite's time is compilation, which they double. They do
# not change the arithmetic. A JAX that does not know a flag ends the process, so that one is for the tested version.
FLAGS = "--xla_cpu_multi_thread_eigen=false --xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
if metadata.version("jaxlib").startswith("0.10."):
    FLAGS += " --xla_cpu_use_fusion_emitters=false"
os.environ.setdefault("XLA_FLAGS", FLAGS)
CACHE = os.environ.setdefault("ESTEP_TEST_CACHE", tempfile.mkdtemp(prefix="estep-tests-"))
os.environ.setdefault("ESTEP_CACHE_DIR", CACHE)
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", CACHE + "/jax")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")

import shutil

import jax
import pytest
from variants import LEFT_TO_LONG

# Thousands of compiled programs are kept: a collection looks through all of them, and at the default one comes after
# every 700 objects.
gc.set_threshold(100_000, 20, 20)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave the repeated variants of a test to `make long`."""
    for item in items:
        if isinstance(item, pytest.Function) and (variant := getattr(item, "callspec", None)):
            ids = LEFT_TO_LONG.get(item.path.name, {}).get(item.originalname)
            if ids and re.fullmatch(ids, variant.id):
                item.add_marker(pytest.mark.long)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Remove the cache, in the process that made it."""
    if not hasattr(session.config, "workerinput"):
        shutil.rmtree(CACHE, ignore_errors=True)
