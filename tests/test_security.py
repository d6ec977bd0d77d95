"""What a hostile file can do: nothing. And what our own code may not contain."""

import ast
import hashlib
import io
import json
import os
import pickle
import shutil
import stat
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from estep.errors import RejectedInput
from estep.runs import checkpoint

ROOT = Path(__file__).parent.parent
BANNED_MODULES = {"pickle", "cloudpickle", "marshal", "dill", "joblib", "shelve", "random", "torch"}
BANNED_CALLS = {"eval", "exec", "__import__", "compile"}
WRITERS = {
    "write_text",
    "write_bytes",
    "touch",
    "mkdir",
    "makedirs",
    "rmtree",
    "copyfile",
    "copytree",
    "symlink",
    "mkstemp",
}
WRITE_FLAGS = {"O_WRONLY", "O_RDWR", "O_CREAT", "O_APPEND", "O_TRUNC"}
OWN_GENERATORS = {"Generator", "default_rng", "SeedSequence", "Philox", "PCG64", "PCG64DXSM", "BitGenerator", "SFC64"}


def dotted(node: ast.AST) -> str:
    """The name of a call's target, as far as it is a chain of attributes."""
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    parts.append(node.id if isinstance(node, ast.Name) else "?")
    return ".".join(reversed(parts))


def imports(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []


def call_faults(node: ast.Call, writes: bool) -> list[str]:
    name, last = dotted(node.func), dotted(node.func).rpartition(".")[2]
    options = {option.arg: getattr(option.value, "value", None) for option in node.keywords}
    faults = [name] if name in BANNED_CALLS or name.endswith("torch.load") else []
    faults += ["shell"] if options.get("shell", False) is not False or name in {"os.system", "os.popen"} else []
    faults += ["allow_pickle"] if options.get("allow_pickle", False) is not False else []
    if name.startswith(("np.random.", "numpy.random.")) and last not in OWN_GENERATORS:
        faults.append(name)
    if writes:
        return faults
    mode = options.get("mode", "r")
    position = 0 if isinstance(node.func, ast.Attribute) else 1
    if last in {"open", "fdopen"} and len(node.args) > position:
        position = 1 if name in {"io.open", "os.fdopen"} else position
        mode = getattr(node.args[min(position, len(node.args) - 1)], "value", "r")
    if last in {"open", "fdopen"} and name != "os.open" and isinstance(mode, str) and set(mode) <= set("rwaxbt+U"):
        faults += [f"{name} {mode}"] if set(mode) & set("wax+") else []
    return faults + ([name] if last in WRITERS else [])


def faults(source: str, writes: bool = False) -> list[str]:
    """What in this source is not allowed; `writes` where it may write files."""
    found = []
    tree = ast.parse(source)
    to_null = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and dotted(node.func) == "os.open" and ast.unparse(node.args[0]) == "os.devnull"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        found += [name for name in imports(node) if name.partition(".")[0] in BANNED_MODULES or name == "numpy.random"]
        if isinstance(node, ast.Call):
            found += call_faults(node, writes)
        if isinstance(node, ast.Attribute) and node.attr in WRITE_FLAGS and not writes and node not in to_null:
            found.append(node.attr)
    return found


def sources() -> list[Path]:
    folders = ("src", "scripts", "benchmarks", "experiments", "examples")
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def test_no_source_can_run_a_file_or_write_one_by_itself():
    found = {}
    for path in sources():
        package = (ROOT / "src") in path.parents
        each = faults(path.read_text("utf-8"), writes=path.name in ("storage.py", "terminal.py") or not package)
        # a benchmark may be held against torch; that it reads no file of torch's is looked at as everywhere
        found[str(path.relative_to(ROOT))] = [name for name in each if name != "torch" or package]
    assert {name: each for name, each in found.items() if each} == {}


@pytest.mark.parametrize(
    "source",
    [
        *[
            "import pickle",
            "from pickle import loads",
            "import joblib.externals",
            "import random",
            "import marshal as m",
        ],
        *["np.load(p, allow_pickle=True)", "np.load(p, allow_pickle=flag)", "eval(t)", "exec(t)", "torch.load(p)"],
        *["subprocess.run(c, shell=True)", "os.system(c)", "np.random.seed(0)", "numpy.random.rand()", "import shelve"],
        *[
            "open(p, 'w')",
            "open(p, mode='ab')",
            "p.open('w')",
            "p.write_text('')",
            "p.write_bytes(b'')",
            "io.open(p, 'x')",
        ],
        *["os.open(p, os.O_WRONLY)", "os.fdopen(d, 'r+')", "p.mkdir()", "open(p, 'rb+')", "def f():\n  import dill"],
    ],
)
def test_the_lint_sees_what_it_is_for(source):
    assert faults(source)


@pytest.mark.parametrize(
    "source",
    [
        *["open(p)", "open(p, 'rb')", "p.open()", "np.random.default_rng(0)", "p.open('r')"],
        "os.open(os.devnull, os.O_RDWR)",
    ],
)
def test_the_lint_lets_sound_code_pass(source):
    assert faults(source) == []


# The hostile corpus. Each case damages a sound checkpoint; each must be refused, quickly, and touch nothing else.

CANARY = "canary was touched"


class Payload:
    """Unpickling it writes the canary."""

    def __reduce__(self):
        return (os.system, (f"echo '{CANARY}' > pwned",))


PICKLE = pickle.dumps(Payload())


def zipped(name: str, data: bytes) -> bytes:
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, data)
    return memory.getvalue()


def npz() -> bytes:
    memory = io.BytesIO()
    np.savez(memory, x=np.array([Payload()], object))
    return memory.getvalue()


def tensor_file(header: object, data: bytes = bytes(24), length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def seal(table: dict | bytes) -> bytes:
    rest = (table if isinstance(table, bytes) else json.dumps(table).encode())[1:]
    return b'{"self":"' + hashlib.sha256(rest).hexdigest().encode() + b'",' + rest


def table_of(path: Path) -> dict:
    table = json.loads((path / "manifest.json").read_bytes())
    del table["self"]
    return table


def put(path: Path, data: bytes) -> None:
    """Replace params.safetensors and record its right size and hash: the manifest vouches for the attack."""
    (path / "params.safetensors").write_bytes(data)
    table = table_of(path)
    table["files"]["params.safetensors"].update(size=len(data), sha256=hashlib.sha256(data).hexdigest())
    (path / "manifest.json").write_bytes(seal(table))


def entry(start: int = 0, stop: int = 24, **changes: object) -> dict:
    return {"w": {"dtype": "F32", "shape": [2, 3], "data_offsets": [start, stop], **changes}}


def two(first: list[int], second: list[int]) -> dict:
    row = {"dtype": "F32", "shape": [3]}
    return {"w": {**row, "data_offsets": first}, "v": {**row, "data_offsets": second}}


TENSOR_FILES = {
    "pickle": PICKLE,
    "zip": zipped("data.pkl", PICKLE),
    "npz": npz(),
    "zip bomb": zipped("x", bytes(10 << 20)),
    "empty": b"",
    "header 2^63": tensor_file(entry(), length=1 << 63),
    "header 2^64-1": tensor_file(entry(), length=(1 << 64) - 1),
    "header past the end": tensor_file(entry(), length=10_000),
    "header of 2 MiB": tensor_file(b" " * (2 << 20) + json.dumps(entry()).encode()),
    "pickle as header": tensor_file(PICKLE),
    "zip after": tensor_file(entry()) + zipped("x", PICKLE),
    "negative offset": tensor_file(entry(-24, 0)),
    "reversed offsets": tensor_file(entry(24, 0)),
    "huge offset": tensor_file(entry(0, 1 << 62)),
    "enormous offset": tensor_file(entry(0, 10**30)),
    "overlap": tensor_file(two([0, 12], [6, 18])),
    "same bytes": tensor_file(two([0, 12], [0, 12])),
    "hole": tensor_file(two([0, 12], [16, 28]), bytes(28)),
    "hole at the start": tensor_file(entry(4, 28), bytes(28)),
    "trailing bytes": tensor_file(entry(), bytes(25)),
    "short data": tensor_file(entry(), bytes(23)),
    "boolean offset": tensor_file(entry(False, 24)),
    "float offset": tensor_file(entry(0.0, 24)),
    "offsets as text": tensor_file(entry(data_offsets="024")),
    "negative shape": tensor_file(entry(shape=[-2, -3])),
    "huge shape": tensor_file(entry(shape=[1 << 62, 1 << 62])),
    "empty but huge": tensor_file(entry(0, 0, shape=[0, 1 << 61, 8]), b""),
    "many axes": tensor_file(entry(shape=[1] * 100)),
    "shape as text": tensor_file(entry(shape="23")),
    "object dtype": tensor_file(entry(dtype="O")),
    "dtype as list": tensor_file(entry(dtype=["F32"])),
    "dtype unknown": tensor_file(entry(dtype="BF16")),
    "extra field": tensor_file(entry(load="os.system")),
    "metadata": tensor_file({"__metadata__": {"class": "os.system"}, **entry()}),
    "duplicate tensor": tensor_file(b'{"w":%b,"w":%b}' % ((json.dumps(entry()["w"]).encode(),) * 2)),
    "header is a list": tensor_file([entry()]),
    "header is null": tensor_file(b"null"),
    "NaN in the header": tensor_file(b'{"w":NaN}'),
    "deep header": tensor_file(b"[" * 100_000),
    "header not UTF-8": tensor_file(b'{"\xff":1}'),
    "surrogate tensor": tensor_file({"\ud800": entry()["w"]}),
    "right-to-left tensor": tensor_file({"w\u202e": entry()["w"]}),
    "escape in a tensor": tensor_file({"\x1b[2Jw": entry()["w"]}),
    "NUL in a tensor": tensor_file({"w\x00": entry()["w"]}),
    "many leaves": tensor_file(b"{" + b",".join(b'"%d":0' % n for n in range(100_000)) + b"}"),
}


def raw(data: bytes):
    return lambda path: (path / "manifest.json").write_bytes(data)


def edit(change):
    def act(path: Path) -> None:
        table = table_of(path)
        change(table)
        (path / "manifest.json").write_bytes(seal(table))

    return act


def name_file(name: str):
    """The manifest names a file elsewhere, which exists, with its right size and hash."""

    def change(table: dict) -> None:
        table["files"][name] = table["files"]["params.safetensors"]

    return edit(change)


def in_place(name: str, make):
    def act(path: Path) -> None:
        target = path / name
        shutil.rmtree(target) if target.is_dir() else target.unlink()
        make(target)

    return act


def link_to_canary(target: Path) -> None:
    target.symlink_to(target.parent.parent / "canary")


def link_to_itself_elsewhere(target: Path) -> None:
    shutil.copy(target.parent.parent / "sound" / target.name, target.parent.parent / "elsewhere")
    target.symlink_to(target.parent.parent / "elsewhere")


def link_folder(path: Path) -> None:
    shutil.move(path / "replay", path.parent / "moved")
    (path / "replay").symlink_to(path.parent / "moved")


def grow(name: str):
    def act(path: Path) -> None:
        os.truncate(path / name, 1 << 40)

    return act


PARAMS = "params.safetensors"
NAMES = ["../canary", "/etc/passwd", "..", ".", "", "replay/../../canary", "a/b.safetensors", "PARAMS.safetensors"]
NAMES += [
    "w\x00.safetensors",
    "w\u202e.safetensors",
    "\ud800.safetensors",
    "x" * 200 + ".safetensors",
    "evil.pkl",
    ".x",
]
NAMES += [
    "replay/chunk_0000.pkl",
    "replay/chunk_9999.safetensors",
    "manifest.json",
    "C:\\x.safetensors",
    "absent.safetensors",
]

CASES = {
    **{f"tensors: {name}": lambda path, data=data: put(path, data) for name, data in TENSOR_FILES.items()},
    **{f"name: {name!a}"[:40]: name_file(name) for name in NAMES},
    **{
        f"pickle as {name}": lambda path, name=name: (path / name).write_bytes(PICKLE)
        for name in ("x.pkl", "x.pt", "x.npy")
    },
    "manifest: pickle": raw(PICKLE),
    "manifest: empty": raw(b""),
    "manifest: sealed pickle": raw(seal(b"{" + PICKLE)),
    "manifest: deep": raw(seal(b'{"format":' + b"[" * 1_000_000)),
    "manifest: deep in tables": raw(seal(b"{" + b'"a":{' * 10_000 + b"}" * 10_001)),
    "manifest: many quotes": raw(seal(b"{" + b'\\"' * 2_000_000)),
    "manifest: many items": raw(seal(b'{"meta":[' + b"1," * 4_000_000 + b"1]}")),
    "manifest: above 16 MiB": raw(seal(b"{" + b" " * (17 << 20) + b"}")),
    "manifest: sparse TiB": grow("manifest.json"),
    "manifest: a list": raw(seal(b"[1]")),
    "manifest: no fields": raw(seal(b"{}")),
    "manifest: format as text": edit(lambda table: table.update(format="1")),
    "manifest: format 0": edit(lambda table: table.update(format=0)),
    "manifest: format true": edit(lambda table: table.update(format=True)),
    "manifest: newer": edit(lambda table: table.update(format=2)),
    "manifest: extra field": edit(lambda table: table.update(hook="os.system")),
    "manifest: huge integer": raw(seal(b'{"step":' + b"9" * 100_000 + b"}")),
    "manifest: huge real": raw(seal(b'{"step":1e999}')),
    "manifest: NaN": raw(seal(b'{"format":1,"step":NaN}')),
    "manifest: -Infinity": raw(seal(b'{"format":1,"step":-Infinity}')),
    "manifest: duplicate key": raw(seal(b'{"format":1,"format":1}')),
    "manifest: surrogate": edit(lambda table: table.update(meta={"x": "\ud800"})),
    "manifest: meta is a list": edit(lambda table: table.update(meta=[])),
    "manifest: step is real": edit(lambda table: table.update(step=1.5)),
    "manifest: step is negative": edit(lambda table: table.update(step=-1)),
    "manifest: files is a list": edit(lambda table: table.update(files=[])),
    "manifest: entry is null": edit(lambda table: table["files"].update({PARAMS: None})),
    "manifest: size is huge": edit(lambda table: table["files"][PARAMS].update(size=1 << 61)),
    "manifest: size is negative": edit(lambda table: table["files"][PARAMS].update(size=-1)),
    "manifest: hash is a list": edit(lambda table: table["files"][PARAMS].update(sha256=[])),
    "manifest: hash is short": edit(lambda table: table["files"][PARAMS].update(sha256="0")),
    "manifest: tensors is null": edit(lambda table: table["files"][PARAMS].update(tensors=None)),
    "manifest: retyped": edit(lambda table: table["files"][PARAMS]["tensors"]["w"].update(dtype="I32")),
    "manifest: reshaped": edit(lambda table: table["files"][PARAMS]["tensors"]["w"].update(shape=[3, 2])),
    "manifest: a billion chunks": edit(lambda table: table["replay"].update(chunks=10**9)),
    "manifest: fewer chunks": edit(lambda table: table["replay"].update(chunks=0)),
    "manifest: replay is text": edit(lambda table: table.update(replay="x")),
    "manifest: no replay": edit(lambda table: table.update(replay=None)),
    "file: link to the canary": in_place(PARAMS, link_to_canary),
    "file: link to its own bytes": in_place(PARAMS, link_to_itself_elsewhere),
    "file: FIFO": in_place(PARAMS, os.mkfifo),
    "file: folder": in_place(PARAMS, os.mkdir),
    "file: dangling link": in_place(PARAMS, lambda target: target.symlink_to("nowhere")),
    "file: link to a device": in_place(PARAMS, lambda target: target.symlink_to("/dev/zero")),
    "file: sparse TiB": grow(PARAMS),
    "file: writable by others": lambda path: (path / PARAMS).chmod(0o666),
    "folder: writable by others": lambda path: path.chmod(0o777),
    "manifest: link": in_place("manifest.json", link_to_itself_elsewhere),
    "manifest: FIFO": in_place("manifest.json", os.mkfifo),
    "replay: link": link_folder,
    "replay: FIFO": in_place("replay", os.mkfifo),
    "replay: file": in_place("replay", lambda target: target.write_bytes(PICKLE)),
    "replay: name that is no text": lambda path: Path(os.fsdecode(os.fsencode(path) + b"/replay/\xff")).write_bytes(
        b""
    ),
}


class Memory:
    """A replay of one chunk."""

    def __init__(self) -> None:
        self.dirty, self.chunks = {0}, 1

    def chunk(self, number):
        return {"obs": np.zeros((4, 3), np.float32)}

    def load_chunk(self, number, arrays):
        assert arrays["obs"].shape == (4, 3)

    def counters(self):
        return {"size": 4}

    def load_counters(self, counters):
        assert counters == {"size": 4}

    def clean(self, numbers):
        self.dirty -= numbers


def sound(base: Path) -> Path:
    """A sound checkpoint, which a canary lies beside."""
    tensors = {"params": {"w": np.ones((2, 3), np.float32)}, "optim": {"n": np.array(3)}}
    path = checkpoint.save(base / "run", 5, tensors, {"updates": 1}, Memory())
    (base / "canary").write_text("untouched")
    shutil.copytree(path, base / "sound")
    return Path(shutil.copytree(path, base / "step_5"))


def test_the_corpus_is_built_on_a_sound_checkpoint(tmp_path):
    path = sound(tmp_path)
    assert checkpoint.load(path, None, Memory()).step == 5
    put(path, (path / PARAMS).read_bytes())
    edit(lambda table: None)(path)
    assert checkpoint.load(path, None, Memory()).step == 5
    put(path, tensor_file(entry()))
    assert checkpoint.load(path, None, Memory()).tensors["params"]["w"].sum() == 0
    assert safetensors.numpy.load(tensor_file(entry()))["w"].shape == (2, 3)
    assert len(CASES) >= 100


@pytest.mark.parametrize("case", CASES)
def test_a_hostile_checkpoint_is_refused(tmp_path, monkeypatch, case):
    monkeypatch.chdir(tmp_path)
    path = sound(tmp_path)
    CASES[case](path)
    start = time.process_time()
    with pytest.raises(RejectedInput) as caught:
        checkpoint.load(path, None, Memory())
    assert checkpoint.reason_against(path)
    assert time.process_time() - start < 2
    assert caught.value.exit_code == 3
    assert all(letter.isprintable() for letter in caught.value.what)
    assert (tmp_path / "canary").read_text() == "untouched"
    assert not (tmp_path / "pwned").exists()


AUDIT = """
import sys, os; from pathlib import Path
sys.path.insert(0, sys.argv[1])
import test_security as corpus
from estep.errors import RejectedInput
from estep.runs import checkpoint
base = Path(sys.argv[2]); os.chdir(base)
cases = []
for number, (name, damage) in enumerate(corpus.CASES.items()):
    (base / str(number)).mkdir()
    path = corpus.sound(base / str(number)); damage(path); cases.append((name, path))
checkpoint.load(base / "0" / "sound", None, corpus.Memory())
seen, watching = [], False
def hook(event, arguments):
    if not watching: return
    if event == "open" and (not isinstance(arguments[2], int) or arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)):
        seen.append((event, arguments))
    if event.partition(".")[0] in ("import", "exec", "compile", "subprocess", "socket", "shutil", "ctypes", "pickle"):
        seen.append((event, str(arguments)[:100]))
    if event in ("os.system", "os.exec", "os.posix_spawn", "os.fork", "os.remove", "os.rename", "os.mkdir", "os.link"):
        seen.append((event, str(arguments)[:100]))
sys.addaudithook(hook)
for name, path in cases:
    watching = True
    try: checkpoint.load(path, None, corpus.Memory())
    except RejectedInput: refused = True
    else: refused = False
    watching = False
    assert refused, name
assert seen == [], seen
watching = True
import wave
open(base / "x", "w").close()
watching = False
assert {event for event, _ in seen} >= {"import", "open"}, "the hook is deaf"
"""


def test_loading_the_corpus_imports_runs_connects_and_writes_nothing(tmp_path):
    command = [sys.executable, "-c", AUDIT, str(Path(__file__).parent), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr[-2000:]


def test_what_we_write_is_private(tmp_path):
    before = os.umask(0)
    try:
        sound(tmp_path)
    finally:
        os.umask(before)
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "run").rglob("*")}
    assert modes == {0o600, 0o700}
