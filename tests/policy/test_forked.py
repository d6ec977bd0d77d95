"""A process that was forked after estep has computed says so, and does not wait for ever."""

import subprocess
import sys
from pathlib import Path

RUN = Path(__file__).parents[1] / "releases" / "0.2.0" / "sac-Pendulum-v1"
PROGRAM = """
import multiprocessing, sys
import estep
from estep.policy import cache

def load(run):
    try:
        estep.load(run)
    except estep.UsageError as error:
        return error.what
    return "loaded"

def in_fork(run):
    with multiprocessing.get_context("fork").Pool(1) as pool:
        return pool.map_async(load, [run]).get(60)[0]

print(in_fork(sys.argv[1]))
cache.check_process()
print(in_fork(sys.argv[1]))
"""


def test_a_fork_after_computing_is_refused():
    ended = subprocess.run([sys.executable, "-c", PROGRAM, str(RUN)], capture_output=True, text=True, timeout=120)
    first, second = ended.stdout.splitlines()
    assert first == "loaded"
    assert "was forked from one in which estep has computed" in second
