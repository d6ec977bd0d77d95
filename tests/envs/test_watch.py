import gc
import subprocess
import sys
import threading
import time
import timeit

import numpy as np
from faulty import Counter

from estep.envs.gymnasium import make
from estep.envs.watch import Watch


def test_hang_is_reported_once_and_only_in_a_call():
    told = []
    watch = Watch(0.1, "Sleepy", told.append, poll=0.01)
    time.sleep(0.25)
    assert told == []
    for call in range(1, 30):  # many short calls are no hang
        watch.call = call
        time.sleep(0.01)
    assert told == []
    time.sleep(0.4)
    assert len(told) == 1
    assert "Sleepy" in told[0]
    watch.close()


def test_environment_calls_are_watched():
    told = threading.Event()
    inner = Counter(0)
    env = make(inner, timeout=0.05, on_hang=lambda message: told.set())
    env.reset()
    inner.fault = lambda env, kind, value: (told.wait(5), value)[1]
    env.step(np.zeros((1, 1), np.float32))
    assert told.is_set()
    env.close()


def test_forgotten_watch_frees_its_thread_and_zero_has_none():
    before = set(threading.enumerate())
    watch = Watch(0.1, "it", print, poll=0.01)
    assert len(set(threading.enumerate()) - before) == 1
    del watch
    gc.collect()
    time.sleep(0.1)
    assert not set(threading.enumerate()) - before
    Watch(0.0, "it", print)
    assert not set(threading.enumerate()) - before


def test_default_ends_the_process_with_5():
    code = "import time\nfrom estep.envs.watch import Watch\nw = Watch(0.1, 'it')\nw.call = 1\ntime.sleep(20)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 5
    assert "has not answered for 0.1 s" in done.stderr


def test_it_costs_nothing():
    watch = Watch(60.0, "it", print)

    def call():
        watch.call = 1
        watch.call = 0

    assert min(timeit.repeat(call, number=1000, repeat=5)) / 1000 < 1e-6
    watch.close()
