"""Stands for `estep train` and `estep resume` where a sweep is tested: it keeps the same files, and needs no library.

A step takes a millisecond and hashes what was before and the learning rate, so that a run that was resumed wrongly ends
with another result.
Its settings are those of sac: `--tau` is how long a step takes, and `--gamma` how it ends:
0.1 a usage error, 0.2 a numeric halt, 0.3 a full disk, 0.4 it dies before it begins, 0.5 it never ends by itself.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import signal
import socket
import sys
import time
from pathlib import Path

EVERY = 10
"""Steps between two checkpoints."""


def options(words):
    """The flags of a command line; a flag with `=` or with one word behind it."""
    found = {}
    for i, word in enumerate(words):
        if word.startswith("--"):
            name, equals, value = word.partition("=")
            found[name] = value if equals else (words[i + 1] if i + 1 < len(words) else "")
    return found


def write(path, content):
    """Replace a file in one step."""
    temporary = path.with_name(f".tmp-{os.getpid()}")
    temporary.write_text(json.dumps(content))
    os.replace(temporary, path)


def end(folder, code, error=None, **numbers):
    """Write how a run ends, as JSON to stdout and into run.json; returns the exit code."""
    status = {0: "done", 75: "stopped"}.get(code, "error")
    if (folder / "run.json").is_file():
        record = json.loads((folder / "run.json").read_text())
        write(folder / "run.json", {**record, "status": status, "exit_code": code, "error": error, "result": numbers})
    print(json.dumps({"status": status, "exit_code": code, "error": error, **numbers}), flush=True)
    return code


def lock(folder):
    """Take the lock of a run, as estep does; None if another process has it."""
    descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "start": ""}).encode(), 0)
    return descriptor


def main(words):
    """Train or resume."""
    stop = []
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, lambda *_: stop.append(True))
    given = options(words)
    folder = Path(words[1] if words[0] == "resume" else given["--run-dir"])
    os.umask(0o077)
    if given.get("--gamma") == "0.1":
        return end(folder, 2, "A flag is wrong. Give another.")
    folder.mkdir(parents=True, exist_ok=True)
    if lock(folder) is None:
        return end(folder, 3, f"{folder} is being written by process 1 on host here, started now.")
    if given.get("--gamma") == "0.4":
        os.kill(os.getpid(), signal.SIGKILL)
    if words[0] == "train" and (folder / "run.json").exists():
        return end(folder, 3, f"{folder} holds a run.")
    config = given
    if words[0] == "resume":
        longer = {"--steps": given["--steps"]} if "--steps" in given else {}
        kept = json.loads((folder / "config.json").read_text())
        config = {f"--{k.replace('_', '-')}": str(v) for k, v in {**kept["algorithm"], **kept["run"]}.items()} | longer
    named = {name[2:].replace("-", "_"): value for name, value in config.items()}
    run = {name: named.pop(name) for name in ("steps", "seed")}
    write(folder / "config.json", {"algorithm": named, "run": run})
    write(folder / "config.diff.json", {})
    return steps(folder, config, stop)


def steps(folder, config, stop):
    """Take every step that is left."""
    record = json.loads((folder / "run.json").read_text()) if (folder / "run.json").is_file() else {}
    write(folder / "run.json", {**record, "status": "running", "exit_code": None})
    with (folder / "starts").open("a") as file:
        file.write(f"{os.getpid()}\n")
    total, step, state = int(config["--steps"]), 0, config["--seed"]
    if (folder / "state.json").is_file():
        step, state = json.loads((folder / "state.json").read_text())
    rate = config.get("--learning-rate", "")
    code = {"0.2": 4, "0.3": 6}.get(config.get("--gamma"), 0)
    while step < total or config.get("--gamma") == "0.5":
        time.sleep(float(config.get("--tau", 0.001)))
        step, state = step + 1, hashlib.sha256((state + rate).encode()).hexdigest()
        if step % EVERY == 0 or stop:
            write(folder / "state.json", [step, state])
            with (folder / "metrics.jsonl").open("a") as file:
                file.write(json.dumps({"env_steps": step, "updates": step}) + "\n")
        if stop:
            return end(folder, 75, env_steps=step, eval_mean=None, wall_s=1.0)
        if code:
            return end(folder, code, "The run failed. Look at it.", env_steps=step)
    return end(folder, 0, env_steps=step, eval_mean=int(state[:8], 16) / 2**32, wall_s=1.0)


if __name__ == "__main__":
    sys.exit(main([word for word in sys.argv[1:] if word != "--json"]))
