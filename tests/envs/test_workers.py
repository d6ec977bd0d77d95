"""Environments in worker processes: the bits of one process, failures that name the worker, and nothing left over."""

import gc
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import worker_envs
from worker_envs import Odd, Told, refuses

from estep.core.types import to_one_hot
from estep.envs.elsewhere.pool import Pool
from estep.envs.guard.retry import Retries
from estep.envs.gymnasium import make
from estep.envs.tasks.several import join
from estep.errors import EnvironmentFailure, UsageError
from estep.settings.run import RunConfig

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc"),
    pytest.mark.filterwarnings("ignore:.*It is made anew"),
]
TIMEOUT = 1.0


@pytest.fixture(scope="module")
def pool():
    shared = Pool(2, TIMEOUT)
    yield shared
    shared.close()


def actions(env, steps, seed=0):
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        if env.action_space.factors:
            yield to_one_hot(rng.integers(0, env.spec.action_dim, (env.num_envs, 1)), env.action_space.factors)
        else:
            yield rng.uniform(-0.39, 0.39, (env.num_envs, env.spec.action_dim)).astype(np.float32)


def same(one, other):
    return all(a.tobytes() == b.tobytes() for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize(("source", "steps", "ends"), [(Odd, 40, 20), ("CartPole-v1", 60, 5), ("Hopper-v5", 80, 5)])
def test_the_bits_are_those_of_one_process(pool, source, steps, ends):
    here, there = (make(source, num_envs=5, seed=3, pool=one) for one in (None, pool))
    assert here.describe() == there.describe()
    assert same([here.reset()], [there.reset()])
    for action in actions(here, steps):
        assert same(here.step(action), there.step(action))
    assert (episodes := here.finished()) == there.finished()
    assert len(episodes) >= ends
    assert here.counters() == there.counters()
    unfinished = there.progress()
    again = make(source, num_envs=5, seed=3, pool=pool)
    obs, exact = again.restore(unfinished)
    assert exact == [True] * 5
    assert same([obs], [np.stack([one.obs for one in here.progress()])])
    for action in actions(here, 10, seed=1):
        assert same(here.step(action), again.step(action))


def test_several_tasks_have_the_bits_of_one_process(pool):
    here, there = (
        join([make("CartPole-v1", num_envs=2, name=name, seed=1, pool=one) for name in "ab"], "both")
        for one in (None, pool)
    )
    assert same([here.reset()], [there.reset()])
    for action in actions(here, 30):
        assert same(here.step(action), there.step(action))
    assert here.finished() == there.finished() != []


def told(pool, count=4, **options):
    env = make(Told, num_envs=count, pool=pool, timeout=TIMEOUT, **options)
    return env, env.reset()


def test_a_worker_has_no_jax(pool):
    assert "jax" in sys.modules
    assert not told(pool)[1][:, 2].any()


def test_an_exception_has_the_text_of_one_process(pool):
    texts = []
    for one in (None, pool):
        env, _ = told(one, 3)
        env.step(np.zeros((3, 1), np.float32))
        with pytest.raises(EnvironmentFailure, match="boom") as error:
            env.step(np.array([[0], [0.5], [0]], np.float32))
        texts.append((error.value.what, error.value.fix))
    assert texts[0] == texts[1]


@pytest.fixture
def frail():
    """A pool of its own, and the open files before it."""
    gc.collect()  # what earlier tests have left
    files = sorted(os.listdir("/proc/self/fd"))
    own = Pool(2, TIMEOUT)
    yield own, files
    own.close()


def test_a_worker_that_dies_or_hangs_is_named_and_leaves_nothing(frail):
    pool, files = frail
    env, first = told(pool, retries=Retries(2))
    pids = [one.pid for one in env.envs]
    env.step(np.zeros((4, 1), np.float32))
    dies, hangs = (np.array([[0], [0], [0], [order]], np.float32) for order in (1.0, -1.0))
    who = r"Worker 1 of .*process {}; environments 2 to 3 of Told.*"
    with pytest.warns(RuntimeWarning, match=who.format(pids[3]) + "has ended by SIGKILL"):
        step = env.step(dies)
    assert step.valid.tolist() == [True, True, False, False]
    assert step.truncated.tolist() == [False, False, True, True]
    after = env.step(np.zeros((4, 1), np.float32))
    assert after.next_obs[:, 0].tolist() == [3, 3, 1, 1]
    assert first[0, 1] == after.next_obs[0, 1]
    pids += [one.pid for one in env.envs]
    assert pids[:2] == pids[4:6]
    began = time.monotonic()
    with pytest.raises(EnvironmentFailure, match=who.format(pids[7]) + "has not answered for 1 s"):
        env.step(hangs)  # no retry is left
    assert time.monotonic() - began < TIMEOUT + 3.0  # and 1 s where nothing else runs
    env.close()
    pool.close()
    pool.close()
    assert not any(os.path.exists(f"/proc/{pid}") for pid in pids)
    del env
    pool._parts.clear()
    gc.collect()  # memory is held as long as an array looks at it
    assert sorted(os.listdir("/proc/self/fd")) == files


def test_what_workers_cannot_make_is_refused(pool):
    for source, text in (
        (Told(), "one instance"),
        (lambda: Told(), "cannot find"),
        ("pure/Pendulum-v1", "JAX"),
        ("envpool:HalfCheetah-v5", "EnvPool"),
        ("CartPol-v1", "no environment"),
    ):
        with pytest.raises(UsageError, match=text):
            make(source, pool=pool)
    with pytest.raises(EnvironmentFailure, match="no licence"):
        make(refuses, pool=pool)
    with pytest.raises(UsageError, match="threads"):
        RunConfig(env_workers=2, population=2)


@pytest.mark.long
@pytest.mark.parametrize("killed", ["the run", "a worker"])
def test_a_killed_process_leaves_no_other(tmp_path, killed):
    """The run is saved where a worker was killed, and goes on to the numbers of a run in one process."""
    options = ["--steps", "400", "--warmup-steps", "4000", "--num-envs", "4", "--eval-every", "0"]
    words = [
        "train",
        "sac",
        "--env",
        "worker_envs:estep/Slow-v0",
        *options,
        "--eval-episodes",
        "1",
        "--checkpoint-every",
        "40",
    ]
    whole, cut = (tmp_path / name for name in ("whole", "cut"))
    program = [sys.executable, "-m", "estep"]
    path = os.pathsep.join([os.path.dirname(worker_envs.__file__), *sys.path])
    surroundings = {**os.environ, "PYTHONPATH": path}
    subprocess.run([*program, *words, "--run-dir", whole], check=True, env=surroundings, capture_output=True)
    run = subprocess.Popen(
        [*program, *words, "--run-dir", cut, "--env-workers", "2", "--env-timeout", "5"],
        env=surroundings,
        stderr=subprocess.PIPE,
    )
    while not list(cut.glob("checkpoints/step_*")):
        time.sleep(0.05)
        assert run.poll() is None
    workers = children(run.pid)
    assert len(workers) == 2
    os.kill(run.pid if killed == "the run" else workers[1], signal.SIGKILL)
    said = run.communicate(timeout=20)[1].decode()
    assert run.returncode == (-signal.SIGKILL if killed == "the run" else 5)
    assert killed == "the run" or "environments 2 to 3" in said
    end = time.monotonic() + 5.0
    while any(os.path.exists(f"/proc/{pid}") for pid in workers) and time.monotonic() < end:
        time.sleep(0.05)
    assert not any(os.path.exists(f"/proc/{pid}") for pid in workers)
    again = [*program, "resume", cut, "--allow-import"]
    subprocess.run(again, check=True, env=surroundings, capture_output=True)
    for name in ("episodes.csv", "eval.csv"):
        columns = [[row.split(",")[:3] for row in (run / name).read_text().splitlines()] for run in (whole, cut)]
        assert columns[0] == columns[1]


def children(pid):
    """The worker processes of a run."""
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(one) for one in found if b"elsewhere.child" in Path(f"/proc/{one}/cmdline").read_bytes()]
