"""How long a sweep of 1,000 runs takes to plan and to show, and its memory: `python benchmarks/sweeps.py`.

The runs are trained by the stand-in of the tests, which takes some milliseconds each, so that what is measured is the
sweep itself. Each command is a new process with all of its imports. CPU
seconds of the second one include those of its runs.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import sheet

FAKE = Path(__file__).parents[1] / "tests" / "helpers" / "fake_sweep.py"


def timed(*words: object) -> tuple[float, float, float, int]:
    """Seconds, CPU seconds, MiB at most, and exit code of `estep` in a process of its own, without its runs."""
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    start = time.monotonic()
    process = subprocess.Popen([sys.executable, str(FAKE), "sweep", *map(str, words)], **quiet)
    _, code, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(code)
    return time.monotonic() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, process.returncode


def main() -> None:
    parser = sheet.parser(__file__, __doc__)
    parser.add_argument("--runs", type=int, default=1000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        sweep = Path(place) / "sweep"
        asked = ("sac", "--env", "Pendulum-v1", "--seeds", f"0..{given.runs - 1}", "--steps", "2", "--out", sweep)
        for name, words in {
            "print the plan for SLURM": (*asked, "--on", "slurm", "--print"),
            "run": asked,
            "status": ("status", sweep),
            "go on with nothing left": (sweep,),
        }.items():
            seconds, cpu, memory, code = timed(*words)
            figures = {"seconds": seconds, "cpu_seconds": cpu, "mib": memory}
            row = {"runs": str(given.runs), "command": name, "exit_code": str(code)}
            sheet.write(given.out, [row | {key: f"{one:.3g}" for key, one in figures.items()}], sheet.machine())
            print(f"{name:26s}{seconds:8.1f} s {cpu:8.1f} CPU s {memory:8.0f} MiB   exit {code}", flush=True)


if __name__ == "__main__":
    main()
