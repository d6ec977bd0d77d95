"""The tree is the table: who may import whom, how long things may be, and docstrings that are rows."""

import ast
import functools
import io
import itertools
import re
import tokenize
from pathlib import Path

import pytest
from variants import LEFT_TO_LONG

SRC = Path(__file__).parents[1] / "src" / "estep"
FILES = sorted(SRC.rglob("*.py"))
ROWS = [
    *(
        path
        for path in FILES
        if path.parent.name == "algorithms" and path.stem not in ("__init__", "checks", "contract", "named", "shared")
    ),
    SRC / "algorithms" / "compose" / "row.py",
    *(path for path in FILES if path.parent.name == "model_based" and path.stem not in ("__init__", "model")),
    *(path for path in FILES if path.parent.name == "several_tasks" and path.stem not in ("__init__", "parts")),
]
MOST_FILES = 13
"""In one folder, beside its `__init__.py`."""
MOST_IMPORTED = 35
"""Files of the package that importing a row brings along: what its reader may have to read."""

CORE = {"core", "errors"}
PARTS = CORE | {"families", "nets"}
SLOTS = PARTS | {"settings", "priors", "likelihoods", "inference", "m_steps"}
ROWS_AND_SETTINGS = SLOTS | {"e_steps", "settings", "algorithms"}
BELOW_POLICY = ROWS_AND_SETTINGS | {"data", "envs", "runs", "terminal", "report", "export"}
DEPLOYED = BELOW_POLICY | {"policy"}
MAY_IMPORT = {
    "errors": set(),
    "terminal": set(),
    "settings": {"errors", "settings"},
    "core": CORE,
    "nets": CORE | {"settings", "nets"},
    "families": PARTS,
    "priors": PARTS | {"priors"},
    "likelihoods": PARTS | {"likelihoods"},
    "inference": PARTS | {"settings", "inference"},
    "m_steps": PARTS | {"m_steps"},
    "e_steps": SLOTS | {"e_steps"},
    "algorithms": ROWS_AND_SETTINGS,
    "data": {"core.types", "errors", "data"},
    "envs": {"core.types", "errors", "terminal", "settings.references", "envs"},
    "runs": ROWS_AND_SETTINGS | {"runs"},
    "report": BELOW_POLICY - {"export"},
    "export": BELOW_POLICY,
    "policy": DEPLOYED,
    "video": DEPLOYED | {"video"},
    "training": DEPLOYED | {"video", "training"},
    "population": DEPLOYED | {"training", "population"},
    "instruments": DEPLOYED | {"training", "instruments"},
    "plots": DEPLOYED | {"training", "instruments", "plots"},
    "comparing": DEPLOYED | {"instruments", "plots", "comparing"},
    "sweeps": {"errors", "settings", "runs", "data.memory", "report", "plots", "comparing", "sweeps"},
    "tuning": {"errors", "settings", "runs", "instruments.interval", "sweeps", "tuning"},
    "api": DEPLOYED | {"training", "population", "plots"},
    "cli": DEPLOYED
    | {"training", "population", "instruments", "video", "plots", "comparing", "sweeps", "tuning", "api", "cli"},
}
"""What the modules of each folder (or single file) may import of the package: nothing that stands below it."""

TESTS = re.compile(r"^def (test_\w+)", re.MULTILINE)


text_of = functools.cache(Path.read_text)


@functools.cache
def tree_of(path):
    return ast.parse(text_of(path))


def name_of(path):
    return str(path.relative_to(SRC))


def faulty(faults):
    """The files of the package with faults, and these. One test looks at all files: a test for each takes longer."""
    found = {name_of(path): list(faults(path)) for path in FILES}
    return {name: each for name, each in found.items() if each}


@functools.cache
def imports(path):
    """The modules of the package that a file imports, wherever in the file, without `estep.`."""
    return tuple(_imports(path))


def _imports(path):
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            if node.module == "estep":
                yield from (alias.name for alias in node.names)
            elif (node.module or "").startswith("estep."):
                inside = node.module.removeprefix("estep.")
                packages = [alias.name for alias in node.names if (SRC / inside.replace(".", "/")).is_dir()]
                yield from (f"{inside}.{name}" for name in packages) if packages else iter((inside,))
        elif isinstance(node, ast.Import):
            yield from (alias.name.removeprefix("estep.") for alias in node.names if alias.name.startswith("estep."))


def home_of(path):
    """The folder or the single file of the package in which a file is."""
    return path.relative_to(SRC).parts[0].removesuffix(".py")


def wrong_imports(path):
    allowed = MAY_IMPORT[home_of(path)]
    return [name for name in imports(path) if not any(f"{name}.".startswith(f"{each}.") for each in allowed)]


def test_imports_point_one_way():
    free = {"__init__", "__main__"}  # the Python API and the command line
    assert {home_of(path) for path in FILES} - free == set(MAY_IMPORT)
    assert faulty(lambda path: [] if home_of(path) in free else wrong_imports(path)) == {}


def test_folders_are_listed_from_the_bottom_up():
    """No folder may import one that is listed below it, so that no import can run up."""
    order = list(MAY_IMPORT)
    for home, allowed in MAY_IMPORT.items():
        above = [name for name in allowed if order.index(name.partition(".")[0]) > order.index(home)]
        assert not above, f"{home} may import {above}"


@pytest.mark.parametrize("folder", sorted({path.parent for path in FILES}), ids=lambda path: path.name)
def test_folders_are_small(folder):
    files = [path.name for path in FILES if path.parent == folder and path.name != "__init__.py"]
    assert len(files) <= MOST_FILES, files


def closure(path):
    """The files of the package that importing a file brings along, itself included."""
    found, waiting = set(), [path]
    while waiting:
        file = waiting.pop()
        if file in found:
            continue
        found.add(file)
        for name in imports(file):
            stem = SRC / name.replace(".", "/")
            waiting += [known for known in (stem.with_suffix(".py"), stem / "__init__.py") if known.is_file()]
    return {file for file in found if file.name != "__init__.py"}


@pytest.mark.parametrize("path", ROWS, ids=lambda path: path.stem)
def test_a_row_can_be_read_in_few_files(path):
    files = closure(path)
    for other in ROWS:  # a row that is built from another one is what it adds to that
        files -= closure(other) if other != path and other in files and path.stem != "row" else set()
    if path.stem != "row":  # compose imports every part there is
        assert len(files) <= MOST_IMPORTED, sorted(str(file.relative_to(SRC)) for file in files)


def code_lines(path):
    """Lines that are neither blank, nor comments, nor docstrings."""
    text, lines = text_of(path), set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT):
            lines.update(range(token.start[0], token.end[0] + 1) if token.string.strip() else ())
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            lines.difference_update(range(node.lineno, node.end_lineno + 1))
    return len(lines)


@pytest.mark.parametrize("path", ROWS, ids=lambda path: path.stem)
def test_a_row_is_at_most_eighty_lines_of_code(path):
    assert code_lines(path) <= 80


@pytest.mark.parametrize("path", ROWS, ids=lambda path: path.stem)
def test_the_docstring_is_the_row(path):
    heads = [line.split()[0] for line in (ast.get_docstring(tree_of(path)) or "").splitlines() if line.split()]
    columns = ["prior", "posterior", "inference", "likelihood", "temperature", "m-step"]
    assert [head for head in heads if head in columns] == columns


@functools.cache
def settings_of(path):
    """The settings that a row writes down itself, as lines."""
    classes = [node for node in tree_of(path).body if isinstance(node, ast.ClassDef)]
    return {ast.unparse(node) for found in classes for node in found.body if isinstance(node, ast.AnnAssign)}


def test_no_two_rows_share_six_settings_of_their_own():
    for one, other in itertools.combinations(ROWS, 2):
        shared = settings_of(one) & settings_of(other)
        assert len(shared) < 6, f"{one.stem} and {other.stem} share {sorted(shared)}: make them a group"


def test_there_are_rows():
    assert {"sac", "iterative_sac"} <= {path.stem for path in ROWS}


def test_files_are_short():
    lengths = {name_of(path): len(text_of(path).splitlines()) for path in FILES}
    assert {name: length for name, length in lengths.items() if length > 300} == {}


def long_functions(tree):
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            length = function.end_lineno - function.lineno + 1
            args = function.args
            count = len(args.posonlyargs + args.args + args.kwonlyargs)
            count -= bool(args.args) and args.args[0].arg in ("self", "cls")
            if length > 50 or count > 8:
                yield f"{function.name}: {length} lines, {count} arguments"


def test_functions_are_short_and_take_few_arguments():
    assert faulty(lambda path: long_functions(tree_of(path))) == {}


def test_a_long_function_and_one_of_many_arguments_are_found():
    long = "def f(self, a, b, c, d, e, f, g, h):\n" + "    pass\n" * 50
    many = "async def g(a, b, c, d, /, e, f, *, g, h, i): ..."
    assert list(long_functions(ast.parse(long + many))) == ["f: 51 lines, 8 arguments", "g: 1 lines, 9 arguments"]


WRITERS = {
    *("savefig", "save_file", "savez", "savez_compressed", "savetxt", "tofile", "imsave", "imwrite", "to_csv"),
    *("SummaryWriter", "FileHandler", "NamedTemporaryFile", "TemporaryDirectory", "mkdtemp", "mkstemp", "ZipFile"),
    *("symlink_to", "hardlink_to", "unlink", "rmdir", "rmtree", "copyfile", "copytree", "truncate", "ftruncate"),
    *("pwrite", "writev", "sendfile", "mkfifo", "mknod", "symlink", "link", "renames", "removedirs", "chmod", "chown"),
}
"""Functions that write to a path or a descriptor, or make or remove one: of libraries, of os and of pathlib."""
OF_MODULES = {f"{home}.{name}" for home in ("np", "numpy", "jnp") for name in ("save",)} | {
    *("os.rename", "os.replace", "os.remove", "os.mkdir", "os.makedirs", "shutil.move", "shutil.copy", "os.write"),
}
READERS = {
    "np.load",
    "numpy.load",
    "np.loadtxt",
    "np.fromfile",
    "np.genfromtxt",
    "json.load",
    "os.scandir",
    "csv.DictReader",
}
WRITES_ITS_OWN = {
    "runs/storage.py": "the one way out",
    "runs/leftovers.py": "a folder of the system's temporary files",
    "cli/results.py": "descriptors 1 and 2",
    "export/archive.py": "memory, which is then written by storage.py",
    "terminal.py": "descriptors 1 and 2",
    "envs/elsewhere/worker.py": "memory that a process shares, which has no name",
    "envs/guard/watch.py": "memory of this process and its watchdog",
    "envs/guard/watchdog.py": "descriptor 2",
}
READS_ITS_OWN = {
    "runs/reading.py": "the one way in",
    "runs/storage.py": "the one way out",
    "runs/leftovers.py": "the locks of temporary files",
    "runs/provenance.py": "/proc",
    "data/memory.py": "/proc",
    "envs/guard/watchdog.py": "/proc",
    "settings/schema.py": "the source of the package",
    "report/frame.py": "the style and the script of the package",
    "export/policy.py": "where estep is not there",
    "export/archive.py": "memory, which reading.py has read",
    "cli/results.py": "descriptors 1 and 2",
    "terminal.py": "descriptors 1 and 2",
}


@functools.cache
def calls(source):
    """Every call in a source: the name of its function as far as it is a chain of attributes, and its arguments."""
    nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    return [(ast.unparse(node.func), [ast.unparse(arg) for arg in node.args]) for node in nodes]


def memories(source):
    """Names that stand for memory in which a library may write."""
    return set(re.findall(r"(\w+)[^=\n]*= io\.BytesIO\(\)", source))


def opens_for_writing(source):
    """The calls of a source that write, or give a path to a library that does, instead of asking storage.py."""
    found = []
    for name, args in calls(source):
        last = name.rpartition(".")[2]
        by_library = last in WRITERS and not (last == "savefig" and args and args[0] in memories(source))
        if name in OF_MODULES or (by_library and not name.startswith("storage.")):
            found.append(name)
    return found


def opens_for_reading(source):
    """The calls of a source that open a file by themselves, instead of asking reading.py."""
    last = {"open", "read_text", "read_bytes", "fdopen"}
    own = ("RunFolder.open", "self._open", "manifests.opened")
    return [
        name for name, _ in calls(source) if name in READERS or (name.rpartition(".")[2] in last and name not in own)
    ]


def test_every_byte_on_a_disk_goes_through_storage():
    found = faulty(lambda path: opens_for_writing(text_of(path)))
    assert {name: each for name, each in found.items() if name not in WRITES_ITS_OWN} == {}


def test_every_file_of_a_run_is_opened_by_reading():
    found = faulty(lambda path: opens_for_reading(text_of(path)))
    assert {name: each for name, each in found.items() if name not in READS_ITS_OWN} == {}


@pytest.mark.parametrize(
    "source",
    [
        *["figure.savefig(path)", "np.save(path, x)", "x.tofile(p)", "SummaryWriter(str(p))", "p.unlink()"],
        *["safetensors.numpy.save_file(x, p)", "os.replace(a, b)", "logging.FileHandler(p)", "plt.savefig('a.png')"],
        *["tempfile.mkdtemp()", "p.symlink_to(q)", "shutil.rmtree(p)", "zipfile.ZipFile(p, 'w')", "os.link(a, b)"],
    ],
)
def test_the_lint_of_writers_sees_what_it_is_for(source):
    assert opens_for_writing(source)
    assert not opens_for_writing("memory, kind = io.BytesIO(), 1\nfigure.savefig(memory, format=kind)")


@pytest.mark.parametrize(
    "source", ["open(p)", "p.open()", "p.read_text()", "np.load(p)", "os.open(p, 0)", "json.load(f)"]
)
def test_the_lint_of_readers_sees_what_it_is_for(source):
    assert opens_for_reading(source)
    assert not opens_for_reading("RunFolder.open(p)")


def package_bases():
    """Every class of the package and the names of its bases."""
    classes = {}
    for path in FILES:
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.ClassDef):
                bases = [base.value if isinstance(base, ast.Subscript) else base for base in node.bases]
                classes[node.name] = [ast.unparse(base).split(".")[-1] for base in bases]
    return classes


def test_inheritance_is_one_deep():
    classes = package_bases()
    for name, bases in classes.items():
        for base in bases:
            above = [each for each in classes.get(base, []) if each in classes]
            assert not above, f"{name} inherits from {base}, which inherits from {above}"


def test_nothing_calls_super_or_is_left_to_do():
    found = faulty(lambda path: [mark for mark in ("super()", "TODO", "FIXME") if mark in text_of(path)])
    assert found == {"errors.py": ["super()"]}  # an exception must tell its own base


def test_every_variant_that_is_left_to_make_long_is_one_of_a_test():
    """The name of a test that has another name by now would leave nothing out."""
    written = {path.name: TESTS.findall(path.read_text()) for path in Path(__file__).parent.rglob("test_*.py")}
    for file, tests in LEFT_TO_LONG.items():
        assert not set(tests) - set(written[file])
