"""A run folder of somebody else, whatever is in it: each command that reads it refuses it, and does nothing else."""

import os
import shutil
import socket
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from commandline import command

import estep
import estep.plots.across_runs  # here, so that the time of importing it does not count
import test_security as corpus
from estep.errors import RejectedInput
from estep.instruments import states
from estep.runs import reading, strict

BASE = Path(__file__).parent / "releases" / "0.1.0" / "sac-Pendulum-v1"
FILES = ("run.json", "config.json", "config.diff.json", "metrics.jsonl", "eval.csv", "episodes.csv", "latest", "best")
SHARING = ("export", "publish")
ALL = ("resume", "eval", "inspect", "verify", "config", "compare", "report", "load", *SHARING)
WITH_CONFIG = ("resume", "eval", "inspect", "config", "compare", "report", "load", *SHARING)
OF_CHECKPOINTS = ("resume", "eval", "inspect", "verify", "load", *SHARING)


def own_bytes(target: Path) -> None:
    target.rename(target.parent.parent / "elsewhere")
    target.symlink_to(target.parent.parent / "elsewhere")


def replaced(make):
    def act(target: Path) -> None:
        if target.is_dir():
            shutil.rmtree(target)
        else:
            target.unlink(missing_ok=True)
        make(target)

    return act


def listen(target: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"/proc/self/cwd/{target.relative_to(Path.cwd())}")


KINDS = {
    "a link to the canary": replaced(lambda target: target.symlink_to(target.parent.parent / "canary")),
    "a link to its own bytes": own_bytes,
    "a dangling link": replaced(lambda target: target.symlink_to("nowhere")),
    "a link to a device": replaced(lambda target: target.symlink_to("/dev/zero")),
    "a FIFO": replaced(os.mkfifo),
    "a socket": replaced(listen),
    "a folder": replaced(os.mkdir),
    "writable by all": lambda target: target.chmod(0o666),
    "writable by the group": lambda target: target.chmod(0o620),
}
SPECIAL = {f"{name} is {kind}": (name, act, ALL) for name in FILES for kind, act in KINDS.items()} | {
    "checkpoints is a link": ("checkpoints", own_bytes, ALL),
    "checkpoints is a file": ("checkpoints", replaced(Path.touch), ALL),
    "plots is a link": ("plots", KINDS["a link to the canary"], ALL),
    "plots is a FIFO": ("plots", replaced(os.mkfifo), ALL),
    "the folder is writable by all": (".", lambda target: target.chmod(0o777), ALL),
    "checkpoints is writable by the group": ("checkpoints", lambda target: target.chmod(0o770), ALL),
}


def text(data: bytes):
    return lambda target: target.write_bytes(data)


def added(data: bytes):
    def act(target: Path) -> None:
        with target.open("ab") as file:
            file.write(data)

    return act


def sparse(target: Path) -> None:
    os.truncate(target, 1 << 40)


JSON = {
    "empty": text(b""),
    "a pickle": text(corpus.PICKLE),
    "a list": text(b"[1]"),
    "cut": text(b'{"format": 2'),
    "deep": text(b"[" * 100_000),
    "deep in tables": text(b'{"a":' * 100_000),
    "of many items": text(b"[" + b"1," * 400_000 + b"1]"),
    "of many texts": text(b"[" + b'"",' * 300_000 + b"1]"),
    "NaN": text(b'{"a": NaN}'),
    "infinite": text(b'{"a": 1e999}'),
    "a huge integer": text(b'{"a": ' + b"9" * 100_000 + b"}"),
    "a duplicate key": text(b'{"a": 1, "a": 2}'),
    "not UTF-8": text(b'{"a": "\xff"}'),
    "a surrogate": text(b'{"a": "\\ud800"}'),
    "of 2 MiB": text(b'{"a": "' + b"x" * (2 << 20) + b'"}'),
    "of a TiB": sparse,
}
LINES = {
    "a pickle": added(corpus.PICKLE + b"\n"),
    "a list": added(b"[1]\n"),
    "empty": added(b"\n"),
    "deep": added(b"[" * 100_000 + b"\n"),
    "of 2 MiB": added(b'{"env_steps": 1, "x": "' + b"x" * (2 << 20) + b'"}\n'),
    "NaN": added(b'{"env_steps": NaN}\n'),
    "a duplicate key": added(b'{"env_steps": 1, "env_steps": 2}\n'),
    "not UTF-8": added(b'{"env_steps": 1, "\xff": 1}\n'),
    "NUL": added(bytes(100) + b"\n"),
    "of a TiB": sparse,
}
STEPS = {
    "without steps": added(b'{"updates": 1}\n'),
    "with steps as text": added(b'{"env_steps": "1"}\n'),
    "with steps as a list": added(b'{"env_steps": [1]}\n'),
    "with no steps": added(b'{"env_steps": null}\n'),
}
ROWS = {
    "no number": added(b"oops,1,1,1,1,1,1,1\n"),
    "a late cell that is no number": added(b"300,1,oops,1,1,1,1,1\n"),
    "a formula": added(b"300,1,=1+1,1,1,1,1,1\n"),
    "too short": added(b"300\n"),
    "too long": added(b"300" + b",1" * 100 + b"\n"),
    "a quote that never ends": added(b'300,"' + b"1," * 10_000 + b"\n"),
    "a pickle": added(corpus.PICKLE + b"\n"),
    "not UTF-8": added(b"\xff,1,1,1,1,1,1,1\n"),
    "NUL": added(bytes(50) + b"\n"),
    "of 2 MiB": added(b"3" * (2 << 20) + b"\n"),
    "of a TiB": sparse,
}
EPISODE_ROWS = {
    "no number": added(b"oops,0,1,1,1\n"),
    "a late cell that is no number": added(b"300,0,1,oops,1\n"),
    "a list": added(b"[1],0,1,1,1\n"),
    "too short": added(b"300\n"),
    "NUL": added(bytes(50) + b"\n"),
    "without steps": added(b",0,1,1,1\n"),
    "other columns": text(b"a,b,c\n1,2,3\n"),
    "of a TiB": sparse,
}
POINTERS = [b"../../canary", b"/etc", b"", b".", b"absent", b"\xff", b"x" * 1000, b"step_1/..", b"step_999"]
TABLE = {
    "a pickle": text(corpus.PICKLE),
    "NUL": text(b"a,b\n" + bytes(10) + b",1\n"),
    "a column twice": text(b"iteration,iteration\n1,2\n"),
    "10,000 columns": text(b",".join(b"%d" % i for i in range(10_000)) + b"\n1\n"),
    "short": text(b"iteration,mean,low,high\n1\n"),
    "no number": text(b"iteration,mean,low,high\n1,oops,1,1\n"),
    "a link": KINDS["a link to the canary"],
    "a FIFO": replaced(os.mkfifo),
    "of a TiB": lambda target: (target.touch(), sparse(target)),
}
CONTENT = {
    **{f"config.json: {kind}": ("config.json", act, WITH_CONFIG) for kind, act in JSON.items()},
    **{f"run.json: {kind}": ("run.json", act, ("resume",)) for kind, act in JSON.items()},
    **{f"metrics.jsonl: {kind}": ("metrics.jsonl", act, ("resume", "inspected")) for kind, act in LINES.items()},
    **{f"metrics.jsonl: {kind}": ("metrics.jsonl", act, ("resume",)) for kind, act in STEPS.items()},
    **{f"eval.csv: {kind}": ("eval.csv", act, ("resume", "compare")) for kind, act in ROWS.items()},
    "eval.csv of a TiB, to publish": ("eval.csv", sparse, ("publish",)),
    "eval.csv: other columns": ("eval.csv", text(b"a,b,c\n1,2,3\n"), ("resume", "compare")),
    "eval.csv: without steps": ("eval.csv", added(b",1,1,1,1,1,1,1\n"), ("resume", "compare")),
    **{f"episodes.csv: {kind}": ("episodes.csv", act, ("resume",)) for kind, act in EPISODE_ROWS.items()},
    **{f"best: {data[:20]!a}": ("best", text(data), ("eval", "load")) for data in POINTERS},
    **{f"latest: {data[:20]!a}": ("latest", text(data), ("eval latest", "inspect")) for data in POINTERS},
    **{f"improvement.csv: {kind}": ("plots/improvement.csv", act, ("inspected",)) for kind, act in TABLE.items()},
}


def arguments(name: str, run: Path) -> list[str]:
    """The command line of a command that reads a run."""
    special = {
        "config": ["config", "show", str(run)],
        "compare": ["compare", str(run.parent / "out"), str(run)],
        "inspected": ["compare", str(run.parent / "out"), str(run), "--inspected"],
        "export": ["export", str(run), "--format", "npz", "--out", str(run.parent / "out")],
        "publish": ["publish", str(run), "--out", str(run.parent / "out.zip")],
        "eval latest": ["eval", str(run), "--checkpoint", "latest"],
    }
    return special.get(name, [name, str(run)])


def refuse(name: str, run: Path) -> str:
    """Run a command that must refuse a run folder, and look at all that it may not do. Returns its error."""
    beside = sorted(path.name for path in run.parent.iterdir())
    start = time.process_time()
    if name == "load":
        with pytest.raises(RejectedInput) as caught:
            estep.load(run)
        said = [caught.value.what, caught.value.fix]
    else:
        ended = command(*arguments(name, run))
        assert ended.code == 3, (name, ended)
        said = [line for line in ended.err.splitlines() if "importing JAX" not in line and "skipped" not in line]
        said = [line for line in said if not line.startswith("no compilation cache")]
        assert said[0].startswith("estep: "), (name, ended)
    assert time.process_time() - start < 2
    assert said[0].endswith(".")
    assert len(said) == 2, said  # what is wrong and how to fix it
    assert all(letter.isprintable() for line in said for letter in line)
    assert sorted(path.name for path in run.parent.iterdir()) == beside
    assert (run.parent / "canary").read_text() == "untouched"
    assert not Path("pwned").exists()
    return said[0]


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run folder that may be damaged, and a canary beside it."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(BASE, tmp_path / "run")
    (tmp_path / "canary").write_text("untouched")
    for path in (tmp_path / "run", *(tmp_path / "run").rglob("*")):  # whatever umask the repository was cloned with
        path.chmod(0o700 if path.is_dir() else 0o600)
    return tmp_path / "run"


def damage(run: Path, case) -> tuple[str, ...]:
    name, act, commands = case
    (run / "plots").mkdir(exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        act(run / name)
    return commands


def test_the_corpus_is_built_on_a_sound_run(run):
    for name in ("verify", "config", "resume", "compare"):
        assert command(*arguments(name, run)).code == 0, name
    assert estep.load(run).env_steps
    assert len(SPECIAL) + len(CONTENT) + len(corpus.CASES) >= 250  # and most of them for several commands


def some(commands: tuple[str, ...], number: int, most: int) -> list[str]:
    """At most so many of the commands, others for each number, so that all have their turn."""
    return [commands[(number * most + i) % len(commands)] for i in range(min(most, len(commands)))]


def hostile_checkpoint(run: Path, case: str) -> None:
    sound = corpus.sound(run.parent)
    corpus.CASES[case](sound)
    shutil.rmtree(run / "checkpoints")
    (run / "checkpoints").mkdir()
    sound.rename(run / "checkpoints" / "step_5")
    for name in ("best", "latest"):
        (run / name).write_text("step_5\n")


@pytest.mark.parametrize(("number", "case"), list(enumerate(SPECIAL)), ids=list(SPECIAL))
def test_no_command_reads_what_is_not_a_private_regular_file(run, number, case):
    for name in some(damage(run, SPECIAL[case]), number, 2):
        refuse(name, run)


@pytest.mark.parametrize(("number", "case"), list(enumerate(CONTENT)), ids=list(CONTENT))
def test_hostile_content_is_refused(run, number, case):
    for name in some(damage(run, CONTENT[case]), number, 2):
        refuse(name, run)


@pytest.mark.parametrize(("number", "case"), [*enumerate(corpus.CASES)][::3])
def test_a_hostile_checkpoint_is_refused_by_a_command(run, number, case):
    hostile_checkpoint(run, case)
    refuse(OF_CHECKPOINTS[number % len(OF_CHECKPOINTS)], run)


@pytest.mark.long
@pytest.mark.parametrize("case", [*SPECIAL, *CONTENT, *corpus.CASES])
def test_every_command_refuses_it(run, case):
    if case in corpus.CASES:
        hostile_checkpoint(run, case)
    for name in OF_CHECKPOINTS if case in corpus.CASES else damage(run, {**SPECIAL, **CONTENT}[case]):
        refuse(name, run)


@pytest.mark.parametrize("name", ["metrics.jsonl", ".", "checkpoints"])
def test_whoever_trusts_the_folder_may_say_so(run, name):
    (run / name).chmod(0o777 if (run / name).is_dir() else 0o666)
    assert "writable" in refuse("verify", run)
    for command_name in ("verify", "config", "resume"):
        ended = command(*arguments(command_name, run), "--trust-dir")
        assert ended.code == 0, ended
    assert "writable" in refuse("load", run)
    assert estep.load(run, trust_dir=True).env_steps
    assert "writable" in refuse("load", run)  # it was said for one call


def test_trust_follows_no_link(run):
    own_bytes(run / "eval.csv")
    assert command("verify", str(run), "--trust-dir").code == 3


AUDIT = """
import contextlib, io, os, shutil, sys
from pathlib import Path
sys.path[:0] = sys.argv[2:]
import test_hostile_folders as hostile
from estep.cli.main import main
base = Path(sys.argv[1])
seen, run = [], None
NEVER = ("os.system", "os.exec", "os.posix_spawn", "os.fork", "os.forkpty", "subprocess.Popen", "pickle.find_class",
         "socket.connect", "socket.bind", "import", "os.remove", "os.rename", "os.symlink", "os.link", "os.mkdir")
def hook(event, arguments):
    if run is None:
        return
    if event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        if not str(arguments[0]).startswith(f"{run}/.lock") and arguments[0] != os.devnull:
            seen.append((event, arguments))
    if event in NEVER:
        seen.append((event, str(arguments)[:100]))
def attempt(name, where):
    global run
    text = io.StringIO()
    argv = hostile.arguments(name, where)
    with contextlib.redirect_stderr(text):
        run = where
        try: code = main(argv)
        finally: run = None
    return code
def fresh(number):
    (base / str(number)).mkdir()
    os.chdir(base / str(number))
    shutil.copytree(hostile.BASE, base / str(number) / "run")
    Path("canary").write_text("untouched")
    for path in (Path("run"), *Path("run").rglob("*")): path.chmod(0o700 if path.is_dir() else 0o600)
    return base / str(number) / "run"
for number, name in enumerate(hostile.ALL + ("inspected", "eval latest")):  # what is imported is imported now
    if name != "load":
        where = fresh(f"warm{number}")
        (where / "best").unlink()
        (where / "latest").unlink()
        os.mkfifo(where / "best")
        attempt(name, where)
        where = fresh(f"content{number}")
        (where / "metrics.jsonl").write_bytes(b"[1]\\n")
        (where / "eval.csv").write_bytes(b"oops\\n")
        (where / "best").write_bytes(b"absent\\n")
        (where / "latest").write_bytes(b"absent\\n")
        attempt(name, where)
sys.addaudithook(hook)
seen.clear()
for number, (case, damaged) in enumerate({**hostile.SPECIAL, **hostile.CONTENT}.items()):
    where = fresh(number)
    for name in hostile.damage(where, damaged):
        if name not in ("load", *hostile.SHARING):  # which load a sound policy before they come to other files
            assert attempt(name, where) == 3, (case, name)
assert seen == [], seen[:20]
run = base
import wave
open(base / "x", "w").close()
run = None
assert {event for event, _ in seen} >= {"import", "open"}, "the hook is deaf"
"""


@pytest.mark.long
def test_no_command_imports_runs_connects_or_writes_for_a_hostile_folder(tmp_path):
    folders = [str(Path(__file__).parent), str(Path(__file__).parent / "helpers")]
    command_line = [sys.executable, "-c", AUDIT, str(tmp_path), *folders]
    done = subprocess.run(command_line, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]


# States from a file.


def npy(header: bytes, data: bytes = b"") -> bytes:
    text = header.ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + data


def head(descr: str = "'<f4'", shape: str = "(2, 3)", order: str = "False") -> bytes:
    return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}".encode()


def saved(array) -> bytes:
    import io

    memory = io.BytesIO()
    np.save(memory, array, allow_pickle=True)
    return memory.getvalue()


STATES = {
    "a pickle": text(corpus.PICKLE),
    "empty": text(b""),
    "objects": text(saved(np.array([corpus.Payload()], object))),
    "npz": text(corpus.npz()),
    "zip": text(corpus.zipped("x.npy", saved(np.ones((2, 3))))),
    "text": text(saved(np.array([["a", "b", "c"]]))),
    "complex": text(saved(np.ones((2, 3), complex))),
    "structured": text(saved(np.zeros(2, [("a", "f4", 3)]))),
    "a scalar": text(saved(np.float32(1))),
    "no rows": text(saved(np.ones((0, 3)))),
    "other width": text(saved(np.ones((2, 4)))),
    "not finite": text(saved(np.array([[1, 2, np.nan]]))),
    "beyond float32": text(saved(np.array([[1, 2, 1e300]]))),
    "huge shape": text(npy(head(shape="(1000000000000, 3)"))),
    "enormous shape": text(npy(head(shape="(" + "9" * 100 + ", 3)"))),
    "negative shape": text(npy(head(shape="(-2, -3)"), bytes(24))),
    "unknown dtype": text(npy(head("'<f5'"), bytes(30))),
    "short data": text(npy(head(), bytes(23))),
    "long data": text(npy(head(), bytes(25))),
    "code as header": text(npy(b"__import__('os').system('touch pwned')")),
    "deep header": text(npy(b"(" * 100)),
    "no header": text(b"\x93NUMPY\x01\x00"),
    "long header": text(b"\x93NUMPY\x02\x00" + (1 << 31).to_bytes(4, "little") + b" " * 5000),
    "version 9": text(npy(head(), bytes(24)).replace(b"\x01\x00", b"\x09\x00", 1)),
    "a FIFO": os.mkfifo,
    "a folder": os.mkdir,
    "a device": lambda target: target.symlink_to("/dev/zero"),
    "a loop": lambda target: target.symlink_to(target.name),
    "absent": lambda target: None,
    "a TiB": lambda target: (target.write_bytes(npy(head(), bytes(24))), sparse(target)),
}


@pytest.mark.parametrize("case", STATES)
def test_states_of_a_hostile_file_are_refused(tmp_path, monkeypatch, case):
    monkeypatch.chdir(tmp_path)
    STATES[case](tmp_path / "x.npy")
    with pytest.raises(RejectedInput, match=r"x\.npy") as caught:
        states.read_states(tmp_path / "x.npy", 3)
    assert "\n" not in caught.value.what
    assert not Path("pwned").exists()


@pytest.mark.parametrize("kind", ["f4", "f8", "f2", "i8", "u1", "?", ">f4"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_states_are_read_as_they_were_saved(tmp_path, monkeypatch, kind, order):
    monkeypatch.setattr(reading, "PIECE", 64)  # many pieces
    array = np.asarray(np.arange(60).reshape(20, 3) % 7, kind, order=order)
    np.save(tmp_path / "x.npy", array)
    (tmp_path / "link.npy").symlink_to("x.npy")  # the user names it
    found = states.read_states(tmp_path / "link.npy", 3)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, array.astype(np.float32))


# Memory.

MEASURE = """
import sys, tracemalloc
from estep.runs import strict
makers = dict(
    keys=lambda n: b"{" + b",".join(b'"%d":0' % i for i in range(n)) + b"}",
    tables=lambda n: b"[" + b",".join([b'{"":0}'] * (n // 2)) + b"]",
    lists=lambda n: b"[" + b",".join([b"[1]"] * (n // 2)) + b"]",
    nested=lambda n: b"[" + b",".join([b"[" * 30 + b"]" * 30] * (n // 31)) + b"]",
    texts=lambda n: b"[" + b",".join(b'"%04d"' % (i % 9999) for i in range(n)) + b"]",
    closing=lambda n: b"]" * 16_000_000,
    quotes=lambda n: b'1,"",' * 3_000_000,
    blank=lambda n: b"[" + b" " * 16_000_000 + b"]",
)
for name, make in makers.items():
    for size in (strict.MAX_ITEMS - 40, 3 * strict.MAX_ITEMS):
        text = make(size)
        tracemalloc.start()
        try:
            value = strict.parse(text)
        except ValueError:
            value = None
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        print(name, len(text), peak)
        assert peak + len(text) <= 1.1 * len(text) + (64 << 20), (name, peak)
"""


@pytest.mark.long
def test_no_text_takes_more_memory_than_it_may():
    done = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr[-500:]


def test_a_text_of_many_tables_is_refused_before_it_is_parsed(monkeypatch):
    monkeypatch.setattr(strict.json, "loads", lambda *args, **options: pytest.fail("it was parsed"))
    for bomb in (b"[" * 300_000, b"]" * 600_000, b"[]" * 300_000, b'{"a":' * 300_000, b'"' * 3_000_000):
        with pytest.raises(ValueError, match="items"):
            strict.parse(bomb)


def test_lines_take_no_memory_however_long_the_file_is(tmp_path):
    import tracemalloc

    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b"x" * 99 + b"\n")
    os.truncate(path, 50 << 20)
    tracemalloc.start()
    with pytest.raises(ValueError, match="line 2 has more than"):
        list(reading.lines(path))
    assert tracemalloc.get_traced_memory()[1] < 8 << 20
    tracemalloc.stop()
