"""SLURM and Ray: what estep asks of them. The programs of SLURM are stand-ins that run a script at once.

`make long` tries the real engines where they are installed: SLURM where `sinfo` answers, Ray with two cores of this
machine. Elsewhere these tests are skipped, and say so.
"""

import csv
import json
import os
import shutil
import subprocess
import sys
import types
from pathlib import Path

import pytest

from estep.cli.sweeping.given import Given, product
from estep.errors import UsageError
from estep.sweeps import on_ray, plan, slurm, status
from estep.sweeps.cluster import connection
from estep.sweeps.lines import Consent, Task

STUBS = {
    "sbatch": """script=$(mktemp); cat > "$script"; echo 7
for i in $(grep -o 'array=[0-9,]*' "$script" | cut -d= -f2 | tr , ' '); do
    SLURM_ARRAY_JOB_ID=7 SLURM_ARRAY_TASK_ID=$i bash "$script"
done; rm "$script" """,
    "srun": """while [[ $1 == --* ]]; do case $1 in --output=*) out=${1#*=};; --error=*) err=${1#*=};; esac; shift; done
"$@" > "$out" 2> "$err" """,
    "squeue": 'cat "$QUEUED" 2>/dev/null || true',
    "scontrol": 'echo "$@" >> "$QUEUED.requeued"',
    "scancel": 'echo "$@" > "$QUEUED.cancelled"',
}
HELPERS = Path(__file__).parents[1] / "helpers"
REAL = ("--steps", "64", "--warmup-steps", "10", "--batch-size", "16", "--hidden-sizes", "8", "--eval-episodes", "1")


@pytest.fixture
def stubs(tmp_path, monkeypatch):
    (tmp_path / "bin").mkdir()
    for name, text in STUBS.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/bash\n{text}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("QUEUED", str(tmp_path / "queued"))
    monkeypatch.setattr(slurm, "BETWEEN", 0.0)
    return tmp_path / "queued"


def test_a_sweep_is_one_array_job(place, stubs):
    ended = place.plan("--steps", "20", "--seeds", "0..2", "--on", "slurm", "--slurm", "time=1", "partition=cpu")
    assert (ended.code, ended.record["counts"]["done"]) == (0, 3)
    assert place.starts() == 3
    assert not stubs.with_suffix(".requeued").exists()
    printed = place.sweep(str(place.path), "--on", "slurm", "--print", "--slurm", "time=1").out
    assert subprocess.run(["bash", "-n"], input=printed, text=True, check=False).returncode == 0
    assert "#SBATCH --time=1\n" in printed
    assert "#SBATCH --array=0,1,2\n" in printed


def test_a_run_that_saved_is_queued_again(place, stubs):
    srun = stubs.parent / "bin" / "srun"
    srun.write_text(srun.read_text().replace('"$@" >', 'timeout --preserve-status -s USR1 2 "$@" >'))
    tasks = [Task(place.path, run, Consent()) for run in product(asked({"gamma": "0.5"})).runs()]
    (place.path / "logs").mkdir(parents=True)
    script = slurm.script(place.path, tasks, {}, None)
    environment = {**os.environ, "SLURM_ARRAY_TASK_ID": "0", "SLURM_ARRAY_JOB_ID": "7"}
    assert subprocess.run(["bash", "-c", script], env=environment, check=False).returncode == 75
    assert stubs.with_suffix(".requeued").read_text() == "requeue 7_0\n"


def test_a_run_that_is_to_take_more_steps_is_told_so(place, stubs):
    short, longer = (next(iter(product(asked({"steps": steps})).runs())) for steps in ("20", "40"))
    place.plan("--steps", "20", "--seeds", "0", "--preset", "auto")
    environment = {**os.environ, "SLURM_ARRAY_TASK_ID": "0", "SLURM_ARRAY_JOB_ID": "7"}
    for run, steps in ((short, 20), (longer, 40)):
        script = slurm.script(place.path, [Task(place.path, run, Consent())], {}, None)
        assert subprocess.run(["bash", "-c", script], env=environment, check=False).returncode == 0
        assert status.of(place.path, run.id).env_steps == steps


def asked(settings):
    """One run of sac."""
    return Given(["sac"], ["Pendulum-v1"], "0", "auto", {"steps": "20", **settings}, {})


def test_runs_that_are_queued_are_not_submitted_again(place, stubs):
    place.path.mkdir()
    runs = tuple(product(asked({})._replace(seeds="0..2")).runs())
    plan.write(place.path, runs)
    stubs.write_text("0\n2\n")
    engine = slurm.Slurm(place.path, {}, None, lambda text: None)
    assert set(engine.submit([Task(place.path, run, Consent()) for run in runs])) == {run.id for run in runs}
    assert place.starts() == 1
    assert list(engine.poll()) == [runs[1].id]
    stubs.write_text("0 7_0 launch failed requeued held\n2 7_2 Resources\n")
    assert list(engine.poll()) == []
    assert stubs.with_suffix(".requeued").read_text() == "release 7_0\n"
    stubs.write_text("")
    assert set(engine.poll()) == {runs[0].id, runs[2].id}


def test_cancel_ends_the_jobs(place, stubs):
    place.plan("--steps", "20", "--seeds", "0")
    place.sweep("cancel", str(place.path))
    assert stubs.with_suffix(".cancelled").read_text() == f"--name={slurm.job_name(place.path)}\n"


def test_options_that_slurm_refuses_are_said(place, stubs):
    (stubs.parent / "bin" / "sbatch").write_text("#!/bin/bash\necho no such partition >&2; exit 1\n")
    ended = place.plan("--steps", "20", "--seeds", "0", "--on", "slurm")
    assert (ended.code, "no such partition" in ended.record["error"]) == (2, True)


def test_an_engine_that_is_not_there_is_said(place, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    ended = place.plan("--steps", "20", "--seeds", "0", "--on", "ray")
    assert (ended.code, "pip install 'estep[ray]'" in ended.record["error"]) == (2, True)
    assert not place.path.exists()
    monkeypatch.setitem(sys.modules, "ray", types.ModuleType("ray"))
    with pytest.raises(UsageError, match=r"No Ray cluster answers at 127.0.0.1:1"):
        connection.check("127.0.0.1:1")


def test_the_cluster_that_is_started_here_asks_for_a_random_token(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", types.ModuleType("ray"))
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    connection.check(connection.LOCAL)
    first = os.environ.pop("RAY_AUTH_TOKEN")
    connection.require_token()
    assert os.environ["RAY_AUTH_MODE"] == "token"
    assert (len(first), first == os.environ["RAY_AUTH_TOKEN"]) == (64, False)
    monkeypatch.setenv("RAY_AUTH_TOKEN", "of the user")
    connection.require_token()
    assert os.environ["RAY_AUTH_TOKEN"] == "of the user"


def test_a_cluster_without_a_token_is_named(monkeypatch):
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    assert connection.warning() == ""
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    assert "can run code on its nodes" in connection.warning()


class Cluster(types.ModuleType):
    """Stands for the module ray: a cluster with one node, which is another one after `begin_anew`."""

    node, tasks = "a", 0

    def get_runtime_context(self):
        return types.SimpleNamespace(get_node_id=lambda known=self.node: known)

    def nodes(self):
        return [{"NodeID": self.node, "Alive": True}]

    def remote(self, **options):
        return lambda function: types.SimpleNamespace(remote=self.begin)

    def begin(self, task):
        self.tasks += 1
        return self.tasks

    def begin_anew(self):
        self.node = "b"

    def wait(self, refs, num_returns, timeout):
        return [], refs

    def init(self, address, **options): ...

    def shutdown(self): ...


def test_a_cluster_that_was_started_again_is_connected_to_again(place, monkeypatch):
    cluster, said = Cluster("ray"), []
    monkeypatch.setitem(sys.modules, "ray", cluster)
    monkeypatch.setattr(connection, "check_folder", lambda *given: None)
    monkeypatch.setattr(on_ray, "BETWEEN", 0.0)
    engine = on_ray.Ray(place.path, "auto", None, said.append)
    tasks = [Task(place.path, run, Consent()) for run in product(asked({})._replace(seeds="0..1")).runs()]
    names = list(engine.submit(tasks))
    assert list(engine.poll()) == []
    cluster.begin_anew()
    assert list(engine.poll()) == names
    assert "was lost" in said[1]
    assert list(engine.submit(tasks)) == names
    assert (list(engine.poll()), cluster.tasks) == ([], 4)


def table(program, out, *words):
    """The table that a program of tests/helpers writes."""
    pytest.importorskip("ray")
    names = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH")}
    paths = os.pathsep.join(filter(None, map(os.path.abspath, sys.path)))
    argv = [sys.executable, str(HELPERS / program), "--out", str(out), *words]
    subprocess.run(argv, check=True, timeout=1500, env={**names, "PYTHONPATH": paths})
    with out.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.long
def test_ray_that_estep_starts_asks_for_a_token(tmp_path):
    inside = {row["what"]: row["inside"] for row in table("ray_ports.py", tmp_path / "ray.csv") if row["inside"]}
    assert inside == {"the token": "True", "another token": "False", "no token": "False"}


@pytest.mark.long
def test_a_worker_of_ray_that_is_killed_loses_no_run(tmp_path):
    (row,) = table("ray_kills.py", tmp_path / "kills.csv", "--kills", "3")
    assert (row["kills"], row["losses"]) == ("3", "0")


def returns(path):
    """The last evaluation of each seed."""
    runs = json.loads((path / "status.json").read_text())["runs"]
    return {run["id"]: run["eval_mean"] for run in runs if run["state"] == "done"}


@pytest.mark.long
def test_all_engines_give_the_same_numbers(tmp_path):
    engines = {"local": ()}
    if shutil.which("sinfo") and not subprocess.run(["sinfo"], capture_output=True, check=False).returncode:
        engines["slurm"] = ("--slurm", "time=10")
    try:
        import ray  # noqa: F401

        engines["ray"] = ("--address", "local")
    except ImportError:
        pass
    if len(engines) == 1:
        pytest.skip("neither SLURM nor Ray is here")
    found = {}
    for name, words in engines.items():
        out = tmp_path / name
        line = ["sac", "--env", "Pendulum-v1", "--seeds", "0..1", *REAL, "--on", name, *words, "--out", str(out)]
        subprocess.run([sys.executable, "-m", "estep", "sweep", *line], check=True, timeout=1500, capture_output=True)
        found[name] = returns(out)
    assert len(found["local"]) == 2
    assert all(one == found["local"] for one in found.values()), found
