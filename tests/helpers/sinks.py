"""Lets everything that a run writes to fail in every way, and writes how each run ended: the tests of test_sinks.py."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1] / "training" / "test_sinks.py"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="CSV to write")
    os.environ["SINKS_TABLE"] = str(parser.parse_args().out.absolute())
    return int(pytest.main(["-q", "-n", "0", "-m", "long or not long", str(TESTS)]))


if __name__ == "__main__":
    sys.exit(main())
