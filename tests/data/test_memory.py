import resource

import numpy as np
import pytest

from estep.algorithms.mpo import MPO
from estep.core.types import Spec
from estep.data.memory import check_memory, format_bytes, memory_limit, round_down
from estep.data.replay import CHUNK
from estep.errors import UsageError
from estep.population import sizes
from estep.population.state import plan_of
from estep.runs import strict
from estep.runs.leaves import skeleton
from estep.settings.run import RunConfig
from estep.training.allocation import MOST_STEPS, check_fits
from oracles import rows


def write(root, files):
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


MEMINFO = {"proc/meminfo": "MemTotal: 900 kB\nMemAvailable:    500 kB\n"}


def test_refuses_and_names_what_fits():
    check_memory(800, 100, 8.0, limit=1000)
    with pytest.raises(UsageError) as error:
        check_memory(801, 100, 8.0, limit=1000)
    assert "--replay-size at most 100" in error.value.fix
    assert error.value.exit_code == 2
    with pytest.raises(UsageError, match=r"1,000,000 transitions needs 112\.0 MB.*80\.0 MB") as error:
        check_memory(112_000_000, 1_000_000, 112.0, limit=100_000_000)
    assert "at most 710000" in error.value.fix
    with pytest.raises(UsageError, match="larger machine"):
        check_memory(10**9, 10, 1e8, limit=1000)
    check_memory(1, 1, 1.0)


def test_reads_cgroup_two_and_the_groups_above(tmp_path):
    root = write(tmp_path, MEMINFO | {"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/memory.max": "max\n"})
    assert memory_limit(root) == 512_000
    write(root, {"sys/fs/cgroup/a/memory.max": "4096\n"})
    assert memory_limit(root) == 4096
    write(root, {"sys/fs/cgroup/memory.max": "1024\n"})
    assert memory_limit(root) == 1024


def test_reads_cgroup_one(tmp_path):
    files = {"proc/self/cgroup": "5:cpu,memory:/job\n2:cpuset:/\n", "sys/fs/cgroup/memory/memory.limit_in_bytes": "77"}
    assert memory_limit(write(tmp_path, files)) == 77


def test_without_any_limit(tmp_path):
    assert memory_limit(tmp_path) is None
    assert memory_limit(write(tmp_path, {"proc/self/cgroup": "0::/\n"})) is None


def test_data_limit(monkeypatch, tmp_path):
    monkeypatch.setattr(resource, "getrlimit", lambda which: (12345, -1))
    assert memory_limit(write(tmp_path, MEMINFO)) == 12345


def test_numbers():
    assert [format_bytes(n) for n in (0, 999, 2.7e6, 999_960, 1e9, 5e15)] == [
        "0 bytes",
        "999 bytes",
        "2.7 MB",
        "1.0 MB",
        "1.0 GB",
        "5000.0 TB",
    ]
    assert [round_down(n) for n in (0, 7, 99, 101, 718_999)] == [0, 7, 99, 100, 710_000]


@pytest.mark.parametrize("num_envs", [1, 3])
def test_a_replay_that_is_shorter_than_what_is_read_at_once_is_refused(num_envs, tmp_path):
    agent, steps = skeleton(MPO(unroll=5), Spec(3, 1)), 5 * num_envs
    check_fits(agent, RunConfig(replay_size=steps), num_envs, np.dtype(np.float32))
    short = RunConfig(replay_size=steps - 1, num_envs=num_envs, population=2)
    one = plan_of(agent, agent.spec, short, np.float32)
    for check in (
        lambda: check_fits(agent, short, num_envs, np.dtype(np.float32)),
        lambda: sizes.checked(short, agent, one.form, tmp_path),
    ):
        with pytest.raises(UsageError, match=f"replay_size={steps - 1} is too small: 5 steps in a row") as refused:
            check()
        assert refused.value.fix == f"Give --replay-size at least {steps}."


def test_a_replay_that_no_checkpoint_can_list_is_refused_at_the_start():
    with pytest.raises(UsageError, match="than a checkpoint may list"):
        check_fits(rows.start("sac"), RunConfig(steps=10**9, replay_size=10**9), 1, np.dtype(np.float32))
    assert MOST_STEPS / CHUNK * 13 * 65 / 64 < strict.MAX_ITEMS  # 1/64 of the rows is for ends of episodes
