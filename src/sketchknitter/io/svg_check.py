"""What an SVG may not bring along, found with expat before any other parser sees the file."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any
from xml.parsers import expat

from sketchknitter.errors import UserError
from sketchknitter.files import AnyPath
from sketchknitter.io.records import MIB

MAX_SVG = 32 * MIB
MAX_ELEMENTS = 100_000  # also after every <use> has been replaced by what it names
MAX_DEPTH = 200
_FOREIGN = re.compile(r"@import|url\(\s*['\"]?\s*(?!['\"\s]|#|data:)", re.IGNORECASE)
# drawn only where something refers to them
DEFINITIONS = ("symbol", "marker", "pattern", "mask", "clipPath")


@dataclass
class _Node:
    name: str
    children: list[_Node] = field(default_factory=list)
    target: str | None = None
    size: int = 0  # 0: not counted yet, -1: being counted


@dataclass
class Findings:
    """What the check learns on its way: the title, whether anything is drawn by reference only,
    and whether the user units are the px of a sketch that we wrote."""

    title: str | None = None
    definitions: bool = False
    own_units: bool = False


class _Check:
    def __init__(self, path: AnyPath) -> None:
        self.path = path
        self.open: list[_Node] = []
        self.ids: dict[str, _Node] = {}
        self.found = Findings()
        self.count = 0
        self.root: _Node | None = None
        self.parser = expat.ParserCreate()
        self.parser.buffer_text = True
        self.parser.StartDoctypeDeclHandler = self._doctype
        self.parser.ProcessingInstructionHandler = self._instruction
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._text

    def refuse(self, what: str) -> UserError:
        return UserError(f"{self.path}, line {self.parser.CurrentLineNumber}: {what}")

    def _doctype(self, *_: Any) -> None:
        raise self.refuse("a document type (DTD) is refused; remove the <!DOCTYPE …>")

    def _instruction(self, target: str, _: str) -> None:
        if target == "xml-stylesheet":
            raise self.refuse("an external style sheet is refused; put the style into the file")

    def _start(self, qualified: str, attributes: dict[str, str]) -> None:
        name = qualified.rpartition(":")[2]
        if self.root is None and name != "svg":
            raise self.refuse(f"the outermost element is <{name}>, not <svg>; this is no SVG")
        self.count += 1
        if self.count > MAX_ELEMENTS or len(self.open) >= MAX_DEPTH:
            raise self.refuse(
                f"more than {MAX_ELEMENTS} elements, or more than {MAX_DEPTH} deep; simplify it"
            )
        node = _Node(name)
        for key, value in attributes.items():
            local = key.rpartition(":")[2]
            if local in ("href", "src") and name != "a":
                self._reference(node, value.strip())
            if _FOREIGN.search(value):
                raise self.refuse(f"an external reference is refused: {value[:60]!r}")
        if "id" in attributes:
            self.ids.setdefault(attributes["id"], node)
        if name in DEFINITIONS:
            self.found.definitions = True
        if self.open:
            self.open[-1].children.append(node)
        else:
            self.root = node
            self.found.own_units = attributes.get("data-units") == "px"
        self.open.append(node)

    def _reference(self, node: _Node, value: str) -> None:
        if value.startswith("#"):
            node.target = value[1:]
        elif value and not value.startswith("data:"):
            raise self.refuse(
                f"an external reference is refused: {value[:60]!r}; embed it or remove it"
            )

    def _end(self, _: str) -> None:
        self.open.pop()

    def _text(self, text: str) -> None:
        inside = self.open[-1].name
        if inside == "style" and _FOREIGN.search(text):
            raise self.refuse("a style that loads another file is refused; remove it")
        if inside == "title" and len(self.open) == 2 and text.strip():
            self.found.title = (self.found.title or "") + text.strip()

    def expand(self, node: _Node, depth: int = 0) -> int:
        """How many elements ``node`` stands for once every <use> has been replaced."""
        if node.size < 0 or depth > 2 * MAX_DEPTH:
            raise UserError(f"{self.path}: a <use> refers to itself or nests too deeply; remove it")
        if node.size:
            return node.size
        node.size = -1
        total = 1
        for child in node.children:
            total += self.expand(child, depth + 1)
        if node.name == "use" and node.target in self.ids:
            total += self.expand(self.ids[node.target], depth + 1)
        if total > MAX_ELEMENTS:
            raise UserError(
                f"{self.path}: its <use> elements unfold to more than {MAX_ELEMENTS}; refused"
            )
        node.size = total
        return total


def check_svg(path: AnyPath, data: bytes) -> Findings:
    """Refuse an SVG with a DTD, an external reference, or too many elements.

    Raises:
        UserError: one of these, or it is not well-formed; names the line.
    """
    if len(data) > MAX_SVG:
        raise UserError(f"{path} is larger than {MAX_SVG // MIB} MiB; simplify or split it")
    check = _Check(path)
    try:
        check.parser.Parse(data, True)
    except expat.ExpatError as error:
        what = expat.ErrorString(error.code)
        raise UserError(f"{path}, line {error.lineno}: not well-formed XML ({what})") from None
    if check.root is not None:
        check.expand(check.root)
    return check.found
