"""The fields of a configuration dataclass, read from its source text.

Importing an algorithm imports JAX, which takes longer than a user waits for `--help`; its source says the same at once.
A test holds every form equal to the class it was read from.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

PACKAGE = Path(__file__).parents[1]
RUN_CONFIG = (PACKAGE / "settings" / "run.py", "RunConfig")
Kind: TypeAlias = Any
"""A type that tyro reads: a class or a typing form."""
KINDS: Mapping[str, Kind] = {
    **{"int": int, "float": float, "bool": bool, "str": str, "Path": Path},
    **{"tuple[int, ...]": tuple[int, ...], "tuple[str, ...]": tuple[str, ...]},
    **{f"{kind.__name__} | None": kind | None for kind in (int, float, str, Path)},
}


class Field(NamedTuple):
    """One field, as a flag of the command line."""

    name: str
    kind: Kind
    written: str
    """The type as the source has it."""
    required: bool
    default: Any
    help: str

    @property
    def flag(self) -> str:
        """Its flag."""
        return "--" + self.name.replace("_", "-")


class Row(NamedTuple):
    """One row of the table: an algorithm."""

    name: str
    table: str
    """The docstring of its file."""
    summary: str
    fields: tuple[Field, ...]


def fields(file: Path, name: str) -> tuple[Field, ...]:
    """The fields of a dataclass in a source file, in order."""
    return _fields(_class(ast.parse(file.read_text("utf-8")), name))


def of(command: Callable[..., Any]) -> tuple[Field, ...]:
    """The fields of a command of this package, which is a dataclass."""
    return fields(PACKAGE.parent / (command.__module__.replace(".", "/") + ".py"), command.__name__)


def rows() -> dict[str, Row]:
    """Every algorithm by the name it has on the command line."""
    folder = PACKAGE / "algorithms"
    tree = ast.parse((folder / "__init__.py").read_text("utf-8"))
    modules = {
        alias.name: PACKAGE.parent / (str(node.module).replace(".", "/") + ".py")
        for node in tree.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    table = next(node.value for node in tree.body if isinstance(node, ast.AnnAssign) and _is_table(node))
    assert isinstance(table, ast.Dict)
    named = {
        ast.literal_eval(key): ast.unparse(value) for key, value in zip(table.keys, table.values, strict=True) if key
    }
    return {name: _row(name, modules[kind], kind) for name, kind in named.items()}


def _is_table(node: ast.AnnAssign) -> bool:
    return isinstance(node.target, ast.Name) and node.target.id == "ALGORITHMS"


def _row(name: str, file: Path, kind: str) -> Row:
    tree = ast.parse(file.read_text("utf-8"))
    found = _class(tree, kind)
    return Row(name, ast.get_docstring(tree) or "", ast.get_docstring(found) or "", _fields(found))


def _class(tree: ast.Module, name: str) -> ast.ClassDef:
    return next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name)


def _fields(found: ast.ClassDef) -> tuple[Field, ...]:
    pairs = zip(found.body, [*found.body[1:], ast.Pass()], strict=True)
    return tuple(_field(node, _text(after)) for node, after in pairs if isinstance(node, ast.AnnAssign))


def _field(node: ast.AnnAssign, text: str) -> Field:
    assert isinstance(node.target, ast.Name)
    default = None if node.value is None else ast.literal_eval(node.value)
    written = ast.unparse(node.annotation)
    return Field(node.target.id, _kind(node.annotation, written), written, node.value is None, default, text)


def _kind(annotation: ast.expr, written: str) -> Kind:
    if isinstance(annotation, ast.Subscript) and ast.unparse(annotation.value) == "Literal":
        return Literal[ast.literal_eval(annotation.slice)]
    return KINDS[written]


def _text(node: ast.stmt) -> str:
    """The docstring that follows a field."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
        return " ".join(node.value.value.split())
    return ""
