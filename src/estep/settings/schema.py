"""The settings of an algorithm, of a run or of a command, as flags.

Importing one of the library's algorithms imports JAX, which takes longer than a user waits for `--help`. So their
fields are read from source text, and the types that the text names are looked up in `settings.fields`, which needs no
JAX. An algorithm of someone else is imported and read as the class that it is. A test holds both ways equal.
"""

from __future__ import annotations

import ast
import dataclasses
import functools as ft
import inspect
import reprlib
import sys
import textwrap
import typing
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import annotated_types

from estep.errors import UsageError
from estep.settings import fields as field_types
from estep.settings import groups, kinds, part_fields, references, renamed
from estep.settings.kinds import Choices, hints_of, kind_of

PACKAGE = Path(__file__).parents[1]
RUN_CONFIG = (PACKAGE / "settings" / "run.py", "RunConfig")
MOST_NAMED = 6
"""Number of algorithms that a message names."""
Hint: TypeAlias = Any
"""A type with its metadata."""
NAMES: Mapping[str, Any] = {
    **{name: getattr(annotated_types, name) for name in ("Ge", "Gt", "Le", "Lt", "Interval", "MinLen")},
    **{"fields": field_types, "part_fields": part_fields, "Help": kinds.Help, "Choices": Choices},
    **{"Annotated": typing.Annotated, "Literal": typing.Literal, "Path": Path},
    **{kind.__name__: kind for kind in (int, float, bool, str, tuple)},
}
"""What the type of a setting may name."""


class Field(NamedTuple):
    """One setting, as a flag of the command line."""

    name: str
    hint: Hint
    required: bool
    default: Any
    help: str
    note: str = ""
    """What the algorithm itself says of it, which is part of the help."""

    @property
    def flag(self) -> str:
        """Its flag."""
        return "--" + self.name.replace("_", "-")

    @property
    def kind(self) -> Any:
        """Its type without metadata, as tyro reads it."""
        base = kind_of(self.hint).base
        if typing.get_origin(base) is not tuple:
            return base
        return tuple[kind_of(typing.get_args(base)[0]).base, ...]  # type: ignore[misc]

    @property
    def choices(self) -> Choices | None:
        """The names it may have, where it may be a part of one's own too."""
        return kind_of(self.hint).choices

    @property
    def written(self) -> str:
        """Its type, for people."""
        kind = self.kind
        return (
            kind.__name__ if isinstance(kind, type) and not typing.get_args(kind) else str(kind).replace("typing.", "")
        )


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


def run_fields() -> tuple[Field, ...]:
    """The settings of a run."""
    return fields(*RUN_CONFIG)


def rows() -> Mapping[str, Row]:
    """Every algorithm of the library by its short name."""
    return {name: _row(name) for name in sources()}


def unknown_setting(owner: str, written: str, name: str, known: Collection[str], otherwise: UsageError) -> UsageError:
    """The refusal of a setting that other libraries call so, or that other algorithms have.

    Args:
        owner: what was given the setting: an algorithm, or a command.
        written: the setting as the user wrote it.
        name: its name.
        known: the names of all settings that could be given.
        otherwise: the refusal if nothing is known of the name.
    """
    ours = renamed.ELSEWHERE.get(name, name)
    having = [row.name for row in rows().values() if any(field.name == ours for field in row.fields)]
    listed = ", ".join(having[:MOST_NAMED]) + (" and others" if len(having) > MOST_NAMED else "")
    if ours != name and ours in known:
        return UsageError(f"{owner} has no {written}.", f"In estep it is --{ours.replace('_', '-')}.")
    if ours != name and having:
        return UsageError(f"{owner} has no {written}.", f"In estep it is {ours}, a setting of {listed}.")
    if having:
        what = f"{owner} has no {written}, which is a setting of {listed}."
        return UsageError(what, f"estep explain {name} tells what it does.")
    return otherwise


@ft.cache
def sources() -> Mapping[str, tuple[Path, str]]:
    """The file and the class of every algorithm of the library, by its short name."""
    folder = PACKAGE / "algorithms"
    tree = ast.parse((folder / "__init__.py").read_text("utf-8"))
    files = {
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
    return {name: (files[kind], kind) for name, kind in named.items()}


def row_of(name: str, algorithm: type) -> Row:
    """An algorithm of someone else, by its class.

    Raises:
        UsageError: it is no dataclass, or a field has no default, or one that a run folder could not hold.
    """
    if not (isinstance(algorithm, type) and dataclasses.is_dataclass(algorithm)):
        raise UsageError(
            f"{name} is not a dataclass.", "Write the algorithm as a frozen dataclass with an init method."
        )
    hints, texts = hints_of(algorithm), _texts(algorithm)
    found = []
    for field in dataclasses.fields(algorithm):
        if field.default is dataclasses.MISSING:
            raise UsageError(f"The field {field.name} of {name} has no default.", "Give every field a default.")
        if not callable(field.default):  # one's own part, which `validate` writes as module:function
            check_recordable(field.name, name, field.default)
        found.append(
            Field(field.name, hints[field.name], False, field.default, _help(hints[field.name], texts, field.name))
        )
    table = sys.modules[algorithm.__module__].__doc__ or ""
    return Row(name, table, inspect.getdoc(algorithm) or "", tuple(found))


def check_recordable(name: str, of: str, value: Any) -> None:
    """Refuse a setting of an algorithm that a run folder could not hold, by its name and its value.

    Raises:
        UsageError: it has no JSON value.
    """
    if not _is_plain(value):
        raise UsageError(
            f"The setting {name} of {of} cannot be recorded: {reprlib.repr(value)}.",
            "Use numbers, strings, True, False, None or tuples of them. Write a function as 'module:function'.",
        )


def _is_plain(value: Any) -> bool:
    """Whether a value can be written as JSON, with tuples as lists."""
    if isinstance(value, tuple):
        return all(_is_plain(item) for item in value)
    return value is None or type(value) in (bool, int, float, str)


def find(name: str) -> Row | None:
    """The algorithm of a name: one of the library's, one that an installed package adds, or a `module:Class`."""
    if name in sources():
        return _row(name)
    reference = name if references.is_reference(name) else references.installed().get(name)
    return None if reference is None else row_of(name, references.resolve(reference))


def _texts(algorithm: type) -> Mapping[str, str]:
    """The docstrings of a class's fields, where its source can be read."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(algorithm)))
    except (OSError, TypeError, SyntaxError):
        return {}
    return _docstrings(_class(tree, algorithm.__name__))


def _is_table(node: ast.AnnAssign) -> bool:
    return isinstance(node.target, ast.Name) and node.target.id == "ALGORITHMS"


@ft.cache
def _row(name: str) -> Row:
    file, kind = sources()[name]
    tree = ast.parse(file.read_text("utf-8"))
    found = _class(tree, kind)
    return Row(name, ast.get_docstring(tree) or "", ast.get_docstring(found) or "", _fields(found))


def _class(tree: ast.Module, name: str) -> ast.ClassDef:
    return next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name)


def _fields(found: ast.ClassDef) -> tuple[Field, ...]:
    texts = _docstrings(found)
    made = {name: field for base in reversed(found.bases) for name, field in _group(ast.unparse(base)).items()}
    for node in found.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            hint = _hint(node.annotation)
            default = None if node.value is None else ast.literal_eval(node.value)
            name = node.target.id
            note = texts.get(name, "")
            made[name] = Field(name, hint, node.value is None, default, _help(hint, texts, name), note)
    return tuple(made.values())


def _group(base: str) -> dict[str, Field]:
    """The settings of a group, by name."""
    home, _, name = base.rpartition(".")
    group = getattr(part_fields if home == "part_fields" else groups, name)
    hints = hints_of(group)
    return {
        field.name: Field(field.name, hints[field.name], False, field.default, _help(hints[field.name], {}, field.name))
        for field in dataclasses.fields(group)
    }


def _hint(node: ast.expr) -> Hint:
    """The type that an annotation means. It is looked up, never run."""
    match node:
        case ast.Constant(value):
            return value
        case ast.Name(name):
            return NAMES[name]
        case ast.Attribute(value, name):
            return getattr(_hint(value), name)
        case ast.Tuple(items):
            return tuple(_hint(item) for item in items)
        case ast.Subscript(value, inside):
            return _hint(value)[_hint(inside)]
        case ast.BinOp(left, ast.BitOr(), right):
            return _hint(left) | _hint(right)
        case ast.BinOp(left, ast.Pow(), right):
            return _hint(left) ** _hint(right)
        case ast.UnaryOp(ast.USub(), value):
            return -_hint(value)
        case ast.Call(function, arguments, keywords):
            named = {str(word.arg): _hint(word.value) for word in keywords}
            return _hint(function)(*(_hint(each) for each in arguments), **named)
    raise TypeError(f"{ast.unparse(node)} is no type of a setting")


def _docstrings(found: ast.ClassDef) -> dict[str, str]:
    """The strings that follow the fields of a class, by field."""
    pairs = zip(found.body, [*found.body[1:], ast.Pass()], strict=True)
    return {
        node.target.id: " ".join(after.value.value.split())
        for node, after in pairs
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) and isinstance(after.value.value, str)
    }


def _help(hint: Hint, texts: Mapping[str, str], name: str) -> str:
    """What the type says of a setting, what the class adds, and the names that it may have."""
    kind = kind_of(hint)
    names = [one for one in kind.choices.names if one] if kind.choices else []
    listed = f"One of {', '.join(names)}; or module:name for your own." if names else ""
    return " ".join(text for text in (kind.help, texts.get(name, ""), listed) if text)
