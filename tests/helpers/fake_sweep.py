"""`estep` in a process whose runs are trained by fake_trainer.py: `python fake_sweep.py sweep SWEEP`."""

from __future__ import annotations

import sys
from pathlib import Path

from estep.sweeps import lines

PROGRAM = (sys.executable, "-S", "-E", str(Path(__file__).with_name("fake_trainer.py")))

if __name__ == "__main__":
    from estep.cli.main import main

    lines.PROGRAM = PROGRAM
    sys.exit(main(sys.argv[1:]))
