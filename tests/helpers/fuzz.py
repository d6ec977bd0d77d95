"""Looks for inputs that the parsers do not refuse as they should: `python tests/helpers/fuzz.py --seconds 600`.

Each parser must give a value or raise one of its own errors, whatever it reads. An input that reaches a line of code
that no input reached before is kept in the corpus and mutated further. `--corpus` keeps the corpus in a folder, and
what broke a parser as crash_*. `checkpoint` mutates whole checkpoints instead: a mutant loads exactly, or is refused.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import small

from estep.errors import RejectedInput, UsageError
from estep.runs import checkpoint, config_file, lines, manifest, strict, tables

COLUMNS = ("env_steps", "updates", "mean", "std", "episodes", "min", "max", "wall_s", "success")
WORDS = [b"{", b"}", b"[", b"]", b'"', b",", b":", b"\\", b"null", b"true", b"NaN", b"1e999", b"-0", b"\xff", b"\x00"]
WORDS += [b"\\ud800", b"9" * 50, b"\n", b"__import__", b"../", b"\x93NUMPY", b"(" * 40, b"[" * 40, b'{"a":' * 40]


CHECKPOINT = "checkpoint"
COLUMNS_OF_TABLE = ("parser", "seconds", "inputs", "corpus", "broken")


class Target(NamedTuple):
    """A parser, the errors that it may raise, and inputs to start from."""

    parse: Callable[[bytes], object]
    errors: tuple[type[Exception], ...]
    seeds: list[bytes]


def sealed(table: dict[str, object]) -> bytes:
    rest = json.dumps(table).encode()[1:]
    return b'{"self":"' + hashlib.sha256(rest).hexdigest().encode() + b'",' + rest


def reseal(data: bytes) -> bytes:
    """A manifest with the hash that its content needs, so that mutants come past it."""
    rest = data[data.find(b'",') + 2 :]
    return b'{"self":"' + hashlib.sha256(rest).hexdigest().encode() + b'",' + rest


def parse_tensors(data: bytes) -> object:
    strict.layout("x", data[: strict.MAX_HEADER + 8], len(data))
    return strict.tensors("x", bytearray(data))


def parse_table(data: bytes) -> object:
    path = Path(tempfile.gettempdir()) / f"estep-fuzz-{os.getpid()}.csv"
    path.write_bytes(data)
    try:
        return list(tables.cells(path))
    finally:
        path.unlink()


def targets() -> dict[str, Target]:
    """Every parser of what others may have written."""
    arrays = {"w": np.ones((2, 3), np.float32), "n": np.array(3)}
    entry = {"dtype": "F32", "shape": [2, 3]}
    file = {"sha256": "0" * 64, "size": 100, "tensors": {"w": entry}}
    table = {"format": 1, "sequence": 1, "step": 5, "meta": {}, "replay": None, "files": {"params.safetensors": file}}
    release = Path(__file__).parents[1] / "releases" / "0.1.0" / "sac-Pendulum-v1"
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }".ljust(117) + b"\n"
    return {
        "json": Target(
            strict.parse, (ValueError, RecursionError), [json.dumps(table).encode(), b'{"a": [1, 2.5, "x"]}']
        ),
        "tensors": Target(parse_tensors, (ValueError, TypeError, KeyError, RecursionError), [strict.encode(arrays)]),
        "manifest": Target(
            lambda data: manifest.decode(reseal(data)),
            (ValueError, TypeError, KeyError, AttributeError, RecursionError),
            [sealed(table)],
        ),
        "npy": Target(
            lambda data: strict.npy(data, len(data)), (ValueError,), [b"\x93NUMPY\x01\x00v\x00" + header + bytes(24)]
        ),
        "metrics": Target(
            lines.steps_of_object, (ValueError, KeyError, TypeError, RecursionError), [b'{"env_steps": 5, "a": null}']
        ),
        "eval": Target(
            lambda data: lines.steps_of_row(data, COLUMNS), (ValueError, csv.Error), [b"300,200,-1.5,2,2,-3,-1,2.7,"]
        ),
        "table": Target(parse_table, (ValueError, csv.Error), [b"a,b\n1,2\n", b'a,"b"\n"1,2",3\n']),
        "config": Target(
            lambda data: config_file.decode(strict.parse(data)),
            (ValueError, RejectedInput, UsageError, RecursionError),
            [(release / "config.json").read_bytes()],
        ),
    }


class Reached:
    """The lines of the package that an input reached."""

    def __init__(self) -> None:
        self.lines: set[tuple[str, int]] = set()

    def __call__(self, call: Callable[[], object]) -> int:
        """Call a function; returns how many lines it reached that nothing reached before."""
        before, known = len(self.lines), self.lines

        def trace(frame, event, argument):
            if "estep" not in frame.f_code.co_filename:
                return None
            known.add((frame.f_code.co_filename, frame.f_lineno))
            return trace

        sys.settrace(trace)
        try:
            call()
        finally:
            sys.settrace(None)
            self.found = len(known) - before
        return self.found


def mutate(rng: np.random.Generator, data: bytes, other: bytes) -> bytes:
    """The input with some bytes or words changed, or parts of it removed, doubled or replaced by those of another."""
    out = bytearray(data)
    for _ in range(int(rng.integers(1, 5))):
        i, n = int(rng.integers(len(out) + 1)), int(rng.integers(1, 17))
        kind = int(rng.integers(7))
        if kind == 0 and i < len(out):
            out[i] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            del out[i : i + n]
        elif kind == 2:
            out[i:i] = WORDS[int(rng.integers(len(WORDS)))]
        elif kind == 3:
            out[i : i + n] = WORDS[int(rng.integers(len(WORDS)))]
        elif kind == 4:
            out[i:i] = out[i : i + 8 * n]
        elif kind == 5:
            j = int(rng.integers(len(other) + 1))
            out[i:] = other[j:]
        else:
            out[i:i] = str(int(rng.integers(-(2**62), 2**62))).encode()
    return bytes(out[: 1 << 16])


def fuzz(name: str, seconds: float, folder: Path | None = None, seed: int = 0) -> tuple[int, int, list[bytes]]:
    """Mutate inputs of one parser. Returns how many were tried, how many are in the corpus, and those that broke it."""
    target, rng, reached = targets()[name], np.random.default_rng(seed), Reached()
    stored = sorted(folder.glob(f"{name}_*")) if folder else []
    corpus, broken, tried = [], [], 0
    waiting = [*target.seeds, *(path.read_bytes() for path in stored)]
    end = time.monotonic() + seconds
    while waiting or time.monotonic() < end:
        data = waiting.pop() if waiting else mutate(rng, *(corpus[int(rng.integers(len(corpus)))] for _ in range(2)))
        tried += 1
        try:
            reached(lambda data=data: target.parse(data))
        except target.errors:
            pass
        except Exception:
            broken.append(data)
        if reached.found or tried <= len(target.seeds) + len(stored):
            corpus.append(data)
    if folder is not None:
        for prefix, inputs in ((name, corpus), (f"crash_{name}", broken)):
            for data in inputs:
                (folder / f"{prefix}_{hashlib.sha256(data).hexdigest()[:16]}").write_bytes(data)
    return tried, len(corpus), broken


def mutate_checkpoint(rng: np.random.Generator, path: Path) -> bool:
    """Change a checkpoint in place. Returns whether its manifest vouches for the change."""
    files = sorted(each for each in path.rglob("*") if each.is_file())
    file = files[int(rng.integers(len(files)))]
    data = file.read_bytes()
    kind = int(rng.integers(6))
    if kind == 0:
        os.truncate(file, int(rng.integers(len(data) + 1)))
    elif kind == 1:
        file.unlink()
    elif kind == 2:
        (path / f"extra{int(rng.integers(9))}.safetensors").write_bytes(data)
    elif kind == 3:
        other = files[int(rng.integers(len(files)))].read_bytes()
        files[int(rng.integers(len(files)))].write_bytes(data)
        file.write_bytes(other)
    else:
        file.write_bytes(mutate(rng, data, data))
    if rng.random() < 0.5 and (path / manifest.NAME).is_file():
        vouch(path)
        return True
    return False


def vouch(path: Path) -> None:
    """Let the manifest of a mutant tell the sizes and hashes of its files, if it can still be read."""
    data = (path / manifest.NAME).read_bytes()
    try:
        table = json.loads(data)
        for name, entry in table["files"].items():
            content = (path / name).read_bytes()
            entry.update(size=len(content), sha256=hashlib.sha256(content).hexdigest())
        del table["self"]
        (path / manifest.NAME).write_bytes(sealed(table))
    except (ValueError, KeyError, TypeError, AttributeError, OSError):
        (path / manifest.NAME).write_bytes(reseal(data))


def vouch_for_another(path: Path) -> bool:
    """Change a number in the manifest, which vouches for it. A test takes it for a change that nobody vouches for."""
    table = json.loads((path / manifest.NAME).read_bytes())
    del table["self"]
    table["step"] += 1
    (path / manifest.NAME).write_bytes(sealed(table))
    return False


def fuzz_checkpoints(sound: Path, count: int, seed: int = 0) -> tuple[int, list[str]]:
    """Mutate a sound checkpoint `count` times. Returns how many mutants were refused, and what went wrong otherwise."""
    rng, refused, wrong = np.random.default_rng(seed), 0, []
    known = checkpoint.load(sound, None, None)
    with tempfile.TemporaryDirectory() as folder:
        for number in range(count):
            mutant = Path(shutil.copytree(sound, Path(folder) / "step_5"))
            vouched = mutate_checkpoint(rng, mutant)
            try:
                loaded = checkpoint.load(mutant, None, None)
            except RejectedInput:
                refused += 1
            except BaseException as error:
                wrong.append(f"mutant {number}: {type(error).__name__}: {error}")
            else:
                if not vouched and not same(loaded, known):
                    wrong.append(f"mutant {number} was loaded with other content")
            shutil.rmtree(mutant)
    return refused, wrong


def same(one: checkpoint.Loaded, other: checkpoint.Loaded) -> bool:
    """Whether two checkpoints hold the same."""
    flat = [
        {f"{file}/{name}": array.tobytes() for file, arrays in each.tensors.items() for name, array in arrays.items()}
        for each in (one, other)
    ]
    return flat[0] == flat[1] and one.meta == other.meta and one.step == other.step


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="parsers, or checkpoint; none means all")
    parser.add_argument("--seconds", type=float, default=600.0, help="for each parser")
    parser.add_argument("--mutants", type=int, default=20_000, help="of a checkpoint")
    parser.add_argument("--corpus", type=Path, help="folder in which the corpus is kept")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="CSV to write")
    given = parser.parse_args()
    if given.corpus:
        given.corpus.mkdir(parents=True, exist_ok=True)
    failed = False
    for name in given.names or [*targets(), CHECKPOINT]:
        if name == CHECKPOINT:
            release = Path(__file__).parents[1] / "releases" / "0.1.0" / "sac-Pendulum-v1"
            (sound,) = (release / "checkpoints").iterdir()
            refused, broken = fuzz_checkpoints(sound, given.mutants, given.seed)
            row = dict(zip(COLUMNS_OF_TABLE, (name, "", given.mutants, "", len(broken)), strict=True))
            print(f"{refused:,} mutants of a checkpoint were refused")
        else:
            tried, kept, broken = fuzz(name, given.seconds, given.corpus, given.seed)
            row = dict(zip(COLUMNS_OF_TABLE, (name, f"{given.seconds:g}", tried, kept, len(broken)), strict=True))
        small.report([row], None)
        print(*broken[:5], sep="\n", flush=True)
        if given.out:
            small.write([*others(given.out, name), row], given.out)
        failed |= bool(broken)
    return int(failed)


def others(path: Path, name: str) -> list[dict[str, object]]:
    """The rows of a table that are there, but that of one parser: each may be made by a call of its own."""
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return [{**row} for row in csv.DictReader(file) if row["parser"] != name]


if __name__ == "__main__":
    sys.exit(main())
