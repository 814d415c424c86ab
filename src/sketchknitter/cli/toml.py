"""Options in TOML files: words of a command line, and back."""

from __future__ import annotations

import dataclasses
import json
import tomllib
from collections.abc import Collection
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from sketchknitter.errors import UserError


def words_of(path: Path, known: set[str]) -> list[str]:
    """A TOML file of options as words of a command line; its tables only group them.

    Raises:
        UserError: no such file, not TOML, an unknown key.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (OSError, ValueError, RecursionError) as error:  # TOML errors are ValueErrors
        raise UserError(f"{path} is not a TOML file: {error}") from None
    words: list[str] = []
    for key, value in _flat(table):
        name = key.replace("-", "_")
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise UserError(f"{path}: no option {key!r}{hint}")
        if isinstance(value, list):
            words += [f"--{name}", *map(str, value)]
        elif isinstance(value, bool | int | float | str):
            words += [f"--{name}", str(value)]
        else:
            raise UserError(f"{path}: {key} cannot be {value!r}")
    return words


def _flat(table: dict[str, Any]) -> list[tuple[str, Any]]:
    out: list[tuple[str, Any]] = []
    for key, value in table.items():
        out += value.items() if isinstance(value, dict) else [(key, value)]
    return out


def to_toml(options: Any, without: Collection[str] = ()) -> str:
    """A dataclass of dataclasses as TOML, one table each, but for the names in ``without``."""
    parts = []
    for group in dataclasses.fields(options):
        record = getattr(options, group.name)
        lines = [
            f"{f.name} = {_toml(getattr(record, f.name))}"
            for f in dataclasses.fields(record)
            if f.name not in without
        ]
        parts.append(f"[{group.name}]\n" + "\n".join(lines) + "\n")
    return "\n".join(parts)


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, str):
        return json.dumps(value)  # TOML's basic strings are JSON's
    return repr(value)
