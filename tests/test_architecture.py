"""The tree is the table: who may import whom, how long things may be, and docstrings that are rows."""

import ast
import io
import tokenize
from pathlib import Path

import pytest

SRC = Path(__file__).parents[1] / "src" / "estep"
FILES = sorted(SRC.rglob("*.py"))
NAMES = [str(path.relative_to(SRC)) for path in FILES]
ROWS = [path for path in FILES if path.parent.name == "algorithms" and path.stem not in ("__init__", "checks", "parts")]
SLOTS = ("priors", "posteriors", "likelihoods", "inference", "constraints")

CORE = {"core", "errors"}
PARTS = CORE | {"distributions", "nets"}
LIBRARY = PARTS | set(SLOTS)
MAY_IMPORT = {
    "errors": set(),
    "core": CORE,
    "distributions": CORE | {"distributions"},
    "nets": CORE | {"distributions"},
    **{slot: PARTS | {slot} for slot in SLOTS},
    "algorithms": LIBRARY | {"algorithms"},
    "data": {"core.types", "errors", "data"},
    "envs": {"core.types", "errors", "envs"},
    "plots": LIBRARY | {"algorithms", "experiment", "instruments", "plots"},
    "instruments": LIBRARY | {"algorithms", "data", "envs", "experiment", "instruments"},
    "experiment": LIBRARY | {"algorithms", "data", "envs", "plots", "experiment"},
    "api": LIBRARY | {"algorithms", "data", "envs", "plots", "experiment", "api"},
    "cli": LIBRARY | {"api"} | {"algorithms", "data", "envs", "plots", "experiment", "instruments", "cli"},
}
"""What the modules of each folder (or single file) may import of the package."""

every_file = pytest.mark.parametrize("path", FILES, ids=NAMES)


def tree_of(path):
    return ast.parse(path.read_text())


def imports(path):
    """The modules of the package that a file imports, wherever in the file, without `estep.`."""
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


@every_file
def test_imports_point_one_way(path):
    home = path.relative_to(SRC).parts[0].removesuffix(".py")
    if home in ("__init__", "__main__"):  # the Python API and the command line
        return
    assert home in MAY_IMPORT, f"say in MAY_IMPORT what {home} may import"
    allowed = MAY_IMPORT[home]
    wrong = [name for name in imports(path) if not any(f"{name}.".startswith(f"{each}.") for each in allowed)]
    assert not wrong, f"{home} imports {wrong}"


def code_lines(path):
    """Lines that are neither blank, nor comments, nor docstrings."""
    text, lines = path.read_text(), set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT):
            lines.update(range(token.start[0], token.end[0] + 1) if token.string.strip() else ())
    for node in ast.walk(ast.parse(text)):
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


def test_there_are_rows():
    assert {"sac", "iterative_sac"} <= {path.stem for path in ROWS}


@every_file
def test_files_are_short(path):
    assert len(path.read_text().splitlines()) <= 300


def functions(path):
    return [node for node in ast.walk(tree_of(path)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


@every_file
def test_functions_are_short_and_take_few_arguments(path):
    for function in functions(path):
        length = function.end_lineno - function.lineno + 1
        assert length <= 50, f"{function.name} has {length} lines"
        args = function.args
        count = len(args.posonlyargs + args.args + args.kwonlyargs)
        count -= bool(args.args) and args.args[0].arg in ("self", "cls")
        assert count <= 8, f"{function.name} takes {count} arguments"


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


@every_file
def test_nothing_calls_super_or_is_left_to_do(path):
    text = path.read_text()
    assert "super()" not in text or path.name == "errors.py"  # an exception must tell its own base
    assert not [mark for mark in ("TODO", "FIXME") if mark in text]
