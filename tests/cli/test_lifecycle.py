"""Signals, in real processes: the flag, the grace, the second interrupt."""

import signal
import subprocess
import sys
import threading
import time

import pytest

from estep.cli.lifecycle import Lifecycle

HEAD = """
import os, sys, time, hashlib
from estep.cli.lifecycle import Lifecycle
def words(code): os.write(1, b"last words %d\\n" % code)
with Lifecycle(words, grace=GRACE) as life:
    print("ready", flush=True)
"""
LOOP = """
    while not life.stop_requested:
        time.sleep(0.02)
print("saved", flush=True)
sys.exit(75)
"""
# Neither returns early for a signal, and both let go of the interpreter lock, as a compilation does.
NATIVE = """
    hashlib.pbkdf2_hmac("sha256", b"a", b"b", 2_000_000_000)
"""
STUBBORN = """
    while True:
        time.sleep(0.02)
"""
MUTE = """
    life._last_words = lambda code: time.sleep(60)
    while True:
        time.sleep(0.02)
"""


class Child:
    def __init__(self, body: str, grace: float) -> None:
        script = HEAD.replace("GRACE", str(grace)) + body
        self.process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
        assert self.process.stdout.readline() == b"ready\n"

    def end(self, timeout: float) -> tuple[int, float, bytes]:
        start = time.monotonic()
        try:
            output = self.process.communicate(timeout=timeout)[0]
        finally:
            self.process.kill()
            self.process.wait()
        return self.process.returncode, time.monotonic() - start, output


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_a_signal_asks_the_loop_to_stop_and_the_run_ends_its_own_way(number):
    child = Child(LOOP, 20)
    child.process.send_signal(number)
    code, seconds, output = child.end(5)
    assert (code, output) == (75, b"saved\n")
    assert seconds < 2


@pytest.mark.parametrize("body", [NATIVE, STUBBORN])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_without_a_safe_point_the_grace_ends_the_run(body, number):
    child = Child(body, 1)
    child.process.send_signal(number)
    code, seconds, output = child.end(8)
    assert (code, output) == (75, b"last words 75\n")
    assert 0.8 < seconds < 4


@pytest.mark.parametrize("body", [NATIVE, STUBBORN])
def test_the_second_interrupt_ends_it_at_once(body):
    child = Child(body, 20)
    child.process.send_signal(signal.SIGINT)
    time.sleep(0.25)  # two that arrive before the process runs are one to the system
    child.process.send_signal(signal.SIGINT)
    code, seconds, output = child.end(8)
    assert (code, output) == (130, b"last words 130\n")
    assert seconds < 1


def test_last_words_that_hang_do_not_hold_the_end_up():
    child = Child(MUTE, 20)
    child.process.send_signal(signal.SIGINT)
    time.sleep(0.05)
    child.process.send_signal(signal.SIGINT)
    code, seconds, _ = child.end(8)
    assert code == 130
    assert seconds < 1.5


def test_the_handlers_before_are_put_back_and_no_thread_stays():
    numbers = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
    before = [signal.getsignal(number) for number in numbers]
    threads = threading.active_count()
    with Lifecycle() as life:
        assert [signal.getsignal(number) for number in numbers] != before
        assert not life.stop_requested
        signal.raise_signal(signal.SIGTERM)
        assert life.stop_requested
    assert [signal.getsignal(number) for number in numbers] == before
    assert threading.active_count() == threads
    descriptor = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(descriptor)
    assert descriptor == -1


def test_outside_the_main_thread_it_is_inert():
    before, seen = signal.getsignal(signal.SIGTERM), []

    def work() -> None:
        with Lifecycle() as life:
            seen.append((signal.getsignal(signal.SIGTERM), life.stop_requested))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(5)
    assert seen == [(before, False)]


def test_an_exception_inside_leaves_it_unchanged():
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyError), Lifecycle():
        raise KeyError
    assert signal.getsignal(signal.SIGINT) is before
