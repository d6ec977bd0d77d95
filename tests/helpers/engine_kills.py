"""Kills a sweep on a cluster: `python tests/helpers/engine_kills.py ray --kills 50 --out kills.csv`, or `slurm`.

With `--real` the runs train; else a stand-in does. At random moments SIGKILL ends the process of the sweep, a run, a
daemon of the cluster, or all of these at once. What was killed of the cluster is started again, and so is the sweep. In
the end every run must be done and equal that of a sweep on this machine that nobody disturbed, with `--real` in every
file. The cluster is real: Ray with a head and a second node, or SLURM with one node. SLURM needs root and a munged that
runs.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import os
import random
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import small
import sweep_kills
from sweep_kills import DEADLINE, children, content, kill, running

TRAIN = {False: ("--steps", "1000", "--tau", "0.005"), True: ("--steps", "600", *sweep_kills.TRAIN[True][2:])}
"""A run of five seconds that a stand-in trains, and a real one."""
LATEST = {False: 3.0, True: 8.0}
"""Seconds that something trains before it is killed, at most."""
SITE = """import sys
sys.path.insert(0, {helpers!r})
import fake_sweep
fake_sweep.lines.PROGRAM = fake_sweep.PROGRAM
"""
"""sitecustomize.py of the workers of Ray, which make the command line of a run: the stand-in trains there too."""
PER_SWEEP = 6
"""Kills after which a sweep is left in peace."""
TRIES = 12
COMMANDS = 6
"""How often `estep sweep SWEEP` may be typed until all is done: a run that is killed three times in a row fails."""
CONF = """ClusterName=kills
SlurmctldHost={host}(127.0.0.1)
AuthType=auth/munge
AuthInfo=cred_expire=10
SlurmUser=root
SlurmdUser=root
SlurmctldPort={port}
SlurmdPort={other}
StateSaveLocation={place}/state
SlurmdSpoolDir={place}/spool
SlurmctldPidFile={place}/slurmctld.pid
SlurmdPidFile={place}/slurmd.pid
SlurmctldLogFile={place}/slurmctld.log
SlurmdLogFile={place}/slurmd.log
ProctrackType=proctrack/linuxproc
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ReturnToService=2
JobRequeue=1
KillWait=5
MpiDefault=none
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""
"""A cluster of one node, where a job that is queued again waits 10 s."""


def processes(*words: str) -> list[int]:
    """The processes whose command line has all of these words."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            line = path.read_bytes().decode(errors="replace")
            found += [int(path.parent.name)] if all(word in line for word in words) else []
    return [pid for pid in found if pid != os.getpid()]


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


class Ray:
    """A head and a second node, each with one core, on this machine."""

    daemons = ("second node", "head")

    def __init__(self, place: Path, real: bool) -> None:
        self.place, self.port = place, free_port()
        if not real:
            (place / "site").mkdir()
            helpers = str(Path(__file__).resolve().parent)
            (place / "site" / "sitecustomize.py").write_text(SITE.format(helpers=helpers))
            os.environ["PYTHONPATH"] = os.pathsep.join([str(place / "site"), *filter(None, sys.path)])
        self.address = f"127.0.0.1:{self.port}"
        os.environ |= {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "RAY_DISABLE_USAGE_STATS": "1",
        }
        os.environ |= {"RAY_gcs_rpc_server_reconnect_timeout_s": "10", "RAY_raylet_start_wait_time_s": "120"}
        self.words = ("--on", "ray", "--address", self.address)

    def _start(self, *words: str) -> None:
        program = Path(sys.executable).with_name("ray")
        line = (program, "start", "--node-ip-address=127.0.0.1", "--num-cpus=1", "--object-store-memory=100000000")
        done = subprocess.run([*line, *words], timeout=DEADLINE, capture_output=True, text=True)
        if done.returncode:
            print(f"ray did not start: {done.stderr[-600:]}", flush=True)

    def mend(self) -> None:
        """Start what is not there. On a busy machine Ray gives up before its processes are up, so it is tried again."""
        for _ in range(TRIES):
            if not self.pids("head"):
                kill(self.pids("everything"))
                temp = self.place / f"ray{time.monotonic_ns() % 10**6}"
                self._start("--head", f"--port={self.port}", "--include-dashboard=false", f"--temp-dir={temp}")
            elif not self.pids("second node"):
                self._start(f"--address={self.address}")
            else:
                return
        raise TimeoutError("Ray does not start")

    def pids(self, victim: str) -> list[int]:
        """The processes of a node with their workers, or of the whole cluster."""
        ours = set(processes(f"{self.place}/ray"))
        raylets = ours & set(processes("raylet/raylet"))
        heads = raylets & set(processes("__internal_head__"))
        if victim == "second node":
            return [pid for one in raylets - heads for pid in (one, *children(one))]
        if victim == "head":
            servers = ours & set(processes("gcs_server"))
            return [*(pid for one in heads for pid in (one, *children(one))), *servers] if servers and heads else []
        return sorted(ours | {pid for one in raylets for pid in children(one)})


class Slurm:
    """One node with two cores."""

    daemons = ("slurmd", "slurmctld", "slurmstepd")
    words = ("--on", "slurm", "--slurm", "time=1")

    def __init__(self, place: Path, real: bool) -> None:
        self.place = place
        for name in ("state", "spool"):
            (place / name).mkdir()
        conf, self.host = place / "slurm.conf", socket.gethostname().split(".")[0]
        conf.write_text(CONF.format(host=self.host, place=place, port=free_port(), other=free_port()))
        os.environ["SLURM_CONF"] = str(conf)

    def mend(self) -> None:
        """Start what is not there."""
        for name in ("slurmctld", "slurmd"):
            if not self.pids(name):
                subprocess.run([name], check=True, timeout=60)
        end = time.monotonic() + 60
        while subprocess.run(["sinfo", "--noheader"], capture_output=True, check=False).returncode:
            if time.monotonic() > end:
                raise TimeoutError("SLURM does not answer")
            time.sleep(0.5)
        # A slurmctld that was killed gives the numbers of its newest jobs again, and a node that has them is drained.
        subprocess.run(["scontrol", "update", f"nodename={self.host}", "state=resume"], capture_output=True)

    def pids(self, victim: str) -> list[int]:
        """A daemon of this cluster, or all."""
        ours = []
        for name in self.daemons if victim == "everything" else (victim,):
            path = Path(shutil.which(name) or f"/usr/sbin/{name}").name
            for pid in processes(path):
                with contextlib.suppress(OSError):
                    if Path(f"/proc/{pid}/comm").read_text().strip() in (name, name[:15]) and self._is_ours(pid):
                        ours.append(pid)
        return ours

    def _is_ours(self, pid: int) -> bool:
        return f"SLURM_CONF={self.place}/".encode() in Path(f"/proc/{pid}/environ").read_bytes()


class Campaign:
    """Kills, and what was wrong after them."""

    def __init__(self, place: Path, cluster: Ray | Slurm, real: bool, seed: int) -> None:
        self.place, self.cluster, self.real, self.chance = place, cluster, real, random.Random(seed)
        self.words = ("sac", "--env", "Pendulum-v1", "--seeds", "0..2", *TRAIN[real], "--out")
        self.kills: collections.Counter[str] = collections.Counter()
        self.sweeps = self.runs = self.losses = 0
        assert sweep_kills.estep(real, *self.words, place / "whole").wait(DEADLINE) == 0
        self.whole = content(place / "whole", real)
        assert {state for state, *_ in self.whole.values()} == {"done"}

    def start(self, sweep: Path) -> subprocess.Popen[bytes]:
        """Type the command of the sweep."""
        given = (sweep,) if (sweep / "plan.json").is_file() else (*self.words, sweep)
        return sweep_kills.estep(self.real, *given, *self.cluster.words)

    def one(self, most: int) -> None:
        """Disturb a sweep, bring it to its end, and compare its runs."""
        self.sweeps += 1
        sweep = self.place / f"sweep-{self.sweeps}"
        most, process = self.kills.total() + most, None
        while self.kills.total() < most:
            if process is None:
                process = self.start(sweep)
            self.wait(process, lambda: bool(running(sweep)))
            with contextlib.suppress(subprocess.TimeoutExpired):
                if process.wait(self.chance.uniform(0, LATEST[self.real])) == 0:
                    break
                process = None  # it ended with its cluster
                continue
            self.strike(process, sweep)
            self.cluster.mend()
            process = process if process.poll() is None else None
        self.finish(sweep, process)

    def wait(self, process: subprocess.Popen[bytes], until: Callable[[], bool]) -> None:
        """Wait until the process of the sweep has ended or something has come, as a cluster is looked after."""
        end = mended = time.monotonic()
        while process.poll() is None and not until() and time.monotonic() < end + DEADLINE:
            time.sleep(0.05)
            if time.monotonic() > mended + 10:
                self.cluster.mend()
                mended = time.monotonic()

    def strike(self, process: subprocess.Popen[bytes], sweep: Path) -> None:
        """Kill something."""
        runs = running(sweep)
        victim = self.chance.choice(("sweep", "run", *self.cluster.daemons, "everything"))
        pids = {"sweep": [process.pid], "run": runs[:1]}.get(victim) or self.cluster.pids(victim)
        if victim == "everything":
            pids = [process.pid, *pids, *runs]
        kill(pids)
        self.kills[victim] += bool(pids)
        if process.pid in pids:
            process.wait()

    def finish(self, sweep: Path, process: subprocess.Popen[bytes] | None) -> None:
        """Bring a sweep to its end, and compare its runs."""
        for _ in range(COMMANDS):
            process = process or self.start(sweep)
            self.wait(process, lambda: False)
            if process.poll() == 0:
                break
            process = None
            time.sleep(1.0)
        found = content(sweep, self.real)
        bad = [name for name in self.whole if found.get(name) != self.whole[name]]
        self.runs, self.losses = self.runs + len(self.whole), self.losses + len(bad)
        print(
            f"{self.kills.total()} kills {dict(self.kills)}, {self.runs} runs, other than undisturbed: {bad}",
            flush=True,
        )

    def rows(self, engine: str) -> list[dict[str, object]]:
        """The counts."""
        about = {"engine": engine, "trainer": "estep" if self.real else "stand-in"}
        found = [{**about, "victim": name, "kills": self.kills[name]} for name in sorted(self.kills)]
        return [{**one, "runs": self.runs, "losses": self.losses} for one in found]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("engine", choices=("ray", "slurm"))
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--real", action="store_true", help="train for real")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="CSV to write, anew after each sweep")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="k") as folder:
        cluster = (Ray if given.engine == "ray" else Slurm)(Path(folder), given.real)
        try:
            cluster.mend()
            campaign = Campaign(Path(folder), cluster, given.real, given.seed)
            while campaign.kills.total() < given.kills:
                campaign.one(min(PER_SWEEP, given.kills - campaign.kills.total()))
                small.report(campaign.rows(given.engine), given.out)
        finally:
            kill(cluster.pids("everything"))
    return int(bool(campaign.losses))


if __name__ == "__main__":
    sys.exit(main())
