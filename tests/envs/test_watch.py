import gc
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from faulty import Counter

from estep.envs.guard import watchdog
from estep.envs.guard.watch import Watch, _dog
from estep.envs.gymnasium import make


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
    code = "import time\nfrom estep.envs.guard.watch import Watch\nw = Watch(0.1, 'it')\nw.call = 1\ntime.sleep(20)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 5
    assert "has not answered for 0.1 s" in done.stderr


HELD = """
import ctypes, time
from estep.envs.guard.watch import Watch
watch = Watch(0.5, "it")
print(time.monotonic(), flush=True)
watch.run(ctypes.PyDLL(None).sleep, 20)
"""


def test_a_call_that_holds_the_interpreter_ends_the_process_with_5_in_time():
    """PyDLL, unlike CDLL, keeps the interpreter lock while C code sleeps."""
    with subprocess.Popen([sys.executable, "-c", HELD], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        began = float(process.stdout.readline())
        process.wait(20)
        took = time.monotonic() - began
        said = process.stderr.read().decode()
    assert process.returncode == 5
    assert took < 0.5 + 1
    assert "it has not answered for 0.5 s, and it does not let go of the Python interpreter" in said


STOPPED = """
import ctypes, time
from estep.envs.guard.watch import Watch
watch = Watch(1.0, "it")
print("ready", flush=True)
watch.run(ctypes.PyDLL(None).usleep, 600_000)
print("through", flush=True)
"""


def test_the_watchdog_does_not_count_while_the_process_is_stopped():
    with subprocess.Popen([sys.executable, "-c", STOPPED], stdout=subprocess.PIPE, text=True) as process:
        process.stdout.readline()
        process.send_signal(signal.SIGSTOP)
        time.sleep(2.5)
        process.send_signal(signal.SIGCONT)
        assert process.stdout.readline() == "through\n"
    assert process.returncode == 0


def entries(*calls):
    """Shared memory in which the first watches have these calls, each with a limit of one second."""
    memory = bytearray(watchdog.SIZE)
    watchdog.HEAD.pack_into(memory, 0, len(calls))
    for index, call in enumerate(calls):
        watchdog.ENTRY.pack_into(memory, watchdog.entry_at(index), call, 1.0, f"env {index}".encode())
    return memory


def test_the_watchdog_counts_each_call_by_itself():
    memory = entries(7, 0, 3)
    calls = watchdog.Calls(memory)
    for number in range(10):  # of the third watch each call is short, and the second makes none
        watchdog.ENTRY.pack_into(memory, watchdog.entry_at(2), 4 + number, 1.0, b"env 2")
        said = calls.late(0.2)
        assert bool(said) == (number > 7), number
    assert "env 0 has not answered for 1 s" in said
    watchdog.ENTRY.pack_into(memory, watchdog.entry_at(0), 8, 1.0, b"env 0")
    assert not calls.late(0.2)


def test_watches_share_one_watchdog_and_give_their_entries_back():
    watches = [Watch(60.0, "it", print) for _ in range(3)]
    used = _dog()._used
    for _ in range(5):
        watches.pop().close()
        watches.append(Watch(60.0, "it", print))
    assert _dog()._used == used
    assert len({watch._entry._index for watch in watches}) == 3
    closed = watches.pop()
    closed.close()
    closed.call = 5  # its entry is another watch's by now
    other = Watch(60.0, "it", print)
    assert (closed.call, other.call) == (5, 0)
    for watch in (*watches, other):
        watch.close()


def test_a_forked_child_leaves_the_watchdog_to_its_parent():
    code = (
        "import os\nfrom estep.envs.guard.watch import Watch, _dogs\nwatch = Watch(60.0, 'it', print)\n"
        "if not os.fork():\n    watch.call = 7\n    os._exit(len(_dogs))\n"
        "assert os.wait()[1] == 0\nassert watch.call == 0 and len(_dogs) == 1\nprint(_dogs[0]._process.pid)"
    )
    quiet = [sys.executable, "-W", "ignore::DeprecationWarning"]  # Python 3.12 warns of a fork where threads are
    done = subprocess.run([*quiet, "-c", code], capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    time.sleep(0.5)
    state = Path(f"/proc/{int(done.stdout)}/stat")  # a process that has ended may wait for its parent to ask
    assert not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z"


ENDS = """
import ctypes, gymnasium, sys, time
import numpy as np
from estep.envs.gymnasium import make
call, how, made = sys.argv[1], sys.argv[2], []
def hang():
    print(time.monotonic(), flush=True)
    ctypes.PyDLL(None).sleep(20) if how == "lock" else time.sleep(20)
class Hangs(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-1, 1, (2,))
    action_space = gymnasium.spaces.Box(-1, 1, (1,))
    def __init__(self):
        if call == "construction":
            hang()
    def reset(self, seed=None, options=None):
        if call == "reset":
            hang()
        return np.zeros(2, np.float32), {}
    def step(self, action):
        if call == "step":
            hang()
        return np.zeros(2, np.float32), 0.0, False, False, {}
    def close(self):
        if call == "close":
            hang()
"""
BY_ITSELF = (
    ENDS
    + """
env = make(Hangs, timeout=1.0)
env.reset()
env.step(np.zeros((1, 1), np.float32))
env.close()
"""
)
IN_TRAINING = (
    ENDS
    + """
import estep
small = dict(steps=40, warmup_steps=40, eval_episodes=0, env_timeout=1.0, report=None)
estep.train('sac', Hangs, out=sys.argv[3], **small)
"""
)
IN_EVALUATION = (
    ENDS
    + """
import estep
later, call = call, ''
small = dict(steps=20, warmup_steps=20, eval_episodes=0, env_timeout=1.0, report=None, max_episode_steps=30)
policy = estep.train('sac', Hangs, out=sys.argv[3], hidden_sizes=(8,), **small)
call = later
policy.evaluate(episodes=1)
"""
)


@pytest.mark.long
@pytest.mark.parametrize("how", ["sleep", "lock"])
@pytest.mark.parametrize("call", ["construction", "reset", "step", "close"])
@pytest.mark.parametrize("program", [BY_ITSELF, IN_TRAINING, IN_EVALUATION], ids=["alone", "training", "evaluation"])
def test_every_call_is_watched(program, call, how, tmp_path):
    argv = [sys.executable, "-c", program, call, how, str(tmp_path)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        began = float(process.stdout.readline())
        process.wait(60)
        took = time.monotonic() - began
        said = process.stderr.read().decode()
    assert process.returncode == 5, said
    assert took < 1 + 1, said
    assert "Hangs has not answered for 1 s" in said
