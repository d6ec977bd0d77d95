"""On what Ray listens when estep starts it, and whether somebody without its token gets in.

`python tests/helpers/ray_ports.py --out ray.csv` needs Ray, and `ss` of Linux.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import small

JOIN = "import ray, sys; ray.init(address=sys.argv[1], log_to_driver=False); print('inside')"


def listening() -> list[dict[str, object]]:
    """Processes of Ray and this one, with the address on which each listens; the port is another one each time."""
    said = subprocess.run(["ss", "-Hltnp"], capture_output=True, text=True, check=True).stdout
    found = set()
    for line in said.splitlines():
        words = line.split()
        host, name = words[3].rpartition(":")[0], words[5].split('"')[1] if len(words) > 5 else ""
        if name.startswith(("ray", "gcs_server")) or f"pid={os.getpid()}," in line:
            found.add((name, host))
    return [{"what": name, "listens_on": host, "inside": ""} for name, host in sorted(found)]


def joins(address: str, token: str) -> bool:
    """Whether a process with this token can join the cluster."""
    names = {**os.environ, "RAY_AUTH_TOKEN": token, "RAY_AUTH_MODE": "token" if token else "disabled"}
    argv = [sys.executable, "-c", JOIN, address]
    done = subprocess.run(argv, env=names, capture_output=True, text=True, timeout=180, check=False)
    return "inside" in done.stdout


def rows() -> list[dict[str, object]]:
    """What listens, and who gets in."""
    from estep.sweeps import on_ray
    from estep.sweeps.cluster.connection import LOCAL

    with tempfile.TemporaryDirectory() as folder:
        on_ray.Ray(Path(folder), LOCAL, 1, print)
        import ray

        address = ray.get_runtime_context().gcs_address
        tokens = {"the token": os.environ["RAY_AUTH_TOKEN"], "another token": "0" * 64, "no token": ""}
        found = listening()
        found += [{"what": name, "listens_on": "", "inside": joins(address, one)} for name, one in tokens.items()]
        ray.shutdown()
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="CSV to write")
    given = parser.parse_args()
    small.report(rows(), given.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
