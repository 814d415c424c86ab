"""Systems by name: short names of those that come along, ``module:Class`` of a user's own."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from importlib import import_module
from typing import Any, TypeVar, cast

import numpy as np

from sketchknitter.errors import UserError
from sketchknitter.systems.contract import System

SYSTEMS: dict[str, str] = {
    "sketchknitter": "sketchknitter.editing.system:Trained",
    "recognizability": "sketchknitter.editing.system:Staged",
    "pretrained": "sketchknitter.editing.system:Pretrained",
    "sketchrnn": "sketchrnn:SketchRNN",
    "pix2seq": "pix2seq:SketchPix2seq",
    "healer": "healer:SketchHealer",
    "diffhw": "diffhw:DiffHW",
    "sketchode": "sketchode:SketchODE",
    "chirodiff": "chirodiff:ChiroDiff",
    "flow": "flow:FlowMatching",
}
"""Short name to ``module:Class``; modules are those of :mod:`sketchknitter.systems`, or whole."""

T = TypeVar("T")


def find(kind: str, where: str = "") -> type:
    """The class behind ``kind``: a short name, or ``module:Class`` of any importable module.

    Raises:
        UserError: no such name, module or class, or a class that is no system.
    """
    target = _whole(SYSTEMS[kind]) if kind in SYSTEMS else kind
    module, _, name = target.partition(":")
    if not name:
        raise UserError(
            f"{where}no system {kind!r}; one of: {', '.join(SYSTEMS)}, or a class of your own as "
            "'module:Class'"
        )
    try:
        found = getattr(import_module(module), name)
    except ImportError as error:
        raise UserError(f"{where}{kind}: {error}") from None
    except AttributeError:
        raise UserError(f"{where}{kind}: {module} has no {name}") from None
    if not (isinstance(found, type) and dataclasses.is_dataclass(found)):
        raise UserError(f"{where}{kind} is no dataclass; see docs/your-own-system.md")
    if lacking := [m for m in ("train", "load") if not callable(getattr(found, m, None))]:
        raise UserError(f"{where}{kind} lacks {lacking[0]}(); see docs/your-own-system.md")
    return found


def name_of(system: type) -> str:
    """The short name of a system's class, or its ``module:Class``."""
    target = f"{system.__module__}:{system.__qualname__}"
    return next((name for name, known in SYSTEMS.items() if _whole(known) == target), target)


def _whole(target: str) -> str:
    return target if target.startswith("sketchknitter.") else f"sketchknitter.systems.{target}"


def make(kind: str, options: Mapping[str, Any], where: str = "") -> System:
    """A system with its options.

    Raises:
        UserError: as :func:`find`, or options that it does not know.
    """
    return cast(System, build(find(kind, f"{where}: " if where else ""), options, where or kind))


def build(kind: type[T], table: Mapping[str, Any], where: str) -> T:
    """A dataclass from a table of plain values: lists become tuples, tables nested dataclasses.

    Raises:
        UserError: an unknown or a missing name, or a value of another type than the default's.
    """
    fields = {f.name: f for f in dataclasses.fields(cast(Any, kind)) if f.init}
    check_names(table, fields, where)
    hints = typing.get_type_hints(kind)
    made: dict[str, Any] = {}
    for name, f in fields.items():
        if name not in table:
            if f.default is f.default_factory is dataclasses.MISSING:
                raise UserError(f"{where}: {name} is missing")
            continue
        value, inner = table[name], _record(hints.get(name))
        if inner is not None and isinstance(value, Mapping):
            made[name] = build(inner, value, f"{where}.{name}")
        else:
            made[name] = plain(value, f.default, f"{where}: {name}")
    return kind(**made)


def check_names(table: Mapping[str, Any], known: Iterable[str], where: str) -> None:
    """Refuse a name that is not ``known``, with the nearest that is.

    Raises:
        UserError: says which.
    """
    names = sorted(known)
    for name in table:
        if name not in names:
            near = get_close_matches(name, names, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise UserError(f"{where}: unknown name {name!r}; {hint}one of: {', '.join(names)}")


def _record(hint: Any) -> type | None:
    """The dataclass that a type hint names, alone or beside None."""
    options = typing.get_args(hint) if _is_union(hint) else (hint,)
    found = [o for o in options if isinstance(o, type) and dataclasses.is_dataclass(o)]
    return found[0] if found else None


def _is_union(hint: Any) -> bool:
    return typing.get_origin(hint) in (typing.Union, types.UnionType)


def plain(value: Any, default: Any, where: str) -> Any:
    """A value, if it is of its default's type; a whole number is a number too, a list a tuple.

    Args:
        default: of any of the usual plain types; a value beside any other is not looked at.
        where: names the value in a message.

    Raises:
        UserError: says what is expected.
    """
    if isinstance(value, np.generic):  # a number from a NumPy array
        value = value.item()
    expected = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
    kind = type(default)
    if kind is float and type(value) is int and abs(value) < 2**1023:
        return float(value)
    if kind in expected and type(value) is not kind:
        raise UserError(f"{where} = {value!r}: {expected[kind]} is expected")
    return tuple(value) if isinstance(value, list) else value
