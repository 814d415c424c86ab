"""An SVG as a tree of what can be drawn, built by expat; what a file may not bring is refused.

Nothing outside the file is ever loaded, and the work is bounded by the file's size: elements and
depth are counted, text in other encodings than the common ones is refused, and of attributes only
those are kept that say what is drawn.
"""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass, field
from typing import Any
from xml.parsers import expat

from sketchknitter.errors import UserError
from sketchknitter.io.records import MIB, AnyPath

MAX_SVG = 32 * MIB
MAX_ELEMENTS = 100_000  # also after every <use> has been replaced by what it names
MAX_DEPTH = 200
_FOREIGN = re.compile(r"@import|url\(\s*['\"]?\s*(?!['\"\s]|#|data:)", re.IGNORECASE)
_ESCAPE = re.compile(r"\\(?:([0-9a-fA-F]{1,6})\s?|([^\n]))")  # of CSS
_DECLARED = re.compile(rb"^\s*<\?xml[^>]{0,200}?encoding\s*=\s*[\"']([A-Za-z0-9._-]{1,40})[\"']")
_ENCODINGS = re.compile(
    r"(utf[-_]?(8|16)(le|be)?|(us[-_]?)?ascii|latin[-_]?1|iso[-_]?8859[-_]?\d{1,2}"
    r"|(windows|cp)[-_]?125\d|koi8[-_][ru]|shift[-_]?jis|euc[-_](jp|kr)|gb2312|gbk|gb18030|big5)",
    re.IGNORECASE,
)
_CONTAINERS = ("svg", "g", "a", "switch", "defs", "symbol", "use", "marker", "pattern", "mask")
_SHAPES = ("path", "polyline", "polygon", "line", "rect", "circle", "ellipse")
DRAWN = frozenset((*_CONTAINERS, "clipPath", *_SHAPES))
_PLACES = ("x", "y", "x1", "y1", "x2", "y2", "cx", "cy", "r", "rx", "ry", "width", "height")
_LOOKS = ("class", "style", "display", "visibility", "stroke", "fill")
_FRAMES = ("id", "transform", "viewBox", "preserveAspectRatio", "data-units", "data-sketch")
KEPT = frozenset(("d", "points", *_PLACES, *_LOOKS, *_FRAMES))


@dataclass
class Node:
    """An element that draws or holds such; ``size`` is how many it stands for, unfolded."""

    name: str
    attributes: dict[str, str]
    children: list[Node] = field(default_factory=list)
    title: str | None = None
    target: str | None = None  # id that a <use> names
    size: int = 0  # 0: not counted yet, -1: being counted


@dataclass(frozen=True)
class Document:
    """A file that was found fit: its outermost element, elements by id, style sheets' text."""

    root: Node
    ids: dict[str, Node]
    styles: str


class _Builder:
    def __init__(self, path: AnyPath) -> None:
        self.path = path
        self.open: list[tuple[str, Node | None]] = []  # None: passed over with all it holds
        self.ids: dict[str, Node] = {}
        self.texts: list[str] = []
        self.styles: list[str] = []
        self.count = 0
        self.root: Node | None = None
        self.parser = expat.ParserCreate(namespace_separator=" ")  # refuses unbound prefixes
        self.parser.buffer_text = True
        self.parser.StartDoctypeDeclHandler = self._doctype
        self.parser.ProcessingInstructionHandler = self._instruction
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._text

    def refuse(self, what: str) -> UserError:
        return UserError(f"{self.path}, line {self.parser.CurrentLineNumber}: {what}")

    def _doctype(self, name: str, system: str | None, public: str | None, internal: bool) -> None:
        if internal:  # it may define entities, and attributes that nobody sees
            raise self.refuse(
                "a document type (DTD) with declarations is refused; remove the <!DOCTYPE …>"
            )

    def _instruction(self, target: str, _: str) -> None:
        if target == "xml-stylesheet":
            raise self.refuse("an external style sheet is refused; put the style into the file")

    def _start(self, qualified: str, attributes: dict[str, str]) -> None:
        name = qualified.rpartition(" ")[2]
        if self.root is None and name != "svg":
            raise self.refuse(f"the outermost element is <{name[:40]}>, not <svg>; this is no SVG")
        self.count += 1
        if self.count > MAX_ELEMENTS or len(self.open) >= MAX_DEPTH:
            raise self.refuse(
                f"more than {MAX_ELEMENTS} elements, or more than {MAX_DEPTH} deep; simplify it"
            )
        if name in ("style", "title"):
            self.texts = []
        parent = self.open[-1][1] if self.open else None
        if name not in DRAWN or (self.open and parent is None):
            self.open.append((name, None))
            return
        node = Node(name, {})
        for key, value in attributes.items():
            local = key.rpartition(" ")[2]
            if local == "href" and name == "use":
                node.target = self._reference(value.strip())
            elif local in KEPT:
                self._check_style(value, f"an external reference is refused: {value[:60]!r}")
                if " " not in key:
                    node.attributes[local] = value
        if "id" in node.attributes:
            self.ids.setdefault(node.attributes["id"], node)
        if parent is None:
            self.root = node
        else:
            parent.children.append(node)
        self.open.append((name, node))

    def _reference(self, value: str) -> str | None:
        if value.startswith("#"):
            return value[1:]
        if value and not value.startswith("data:"):
            raise self.refuse(
                f"an external reference is refused: {value[:60]!r}; embed it or remove it"
            )
        return None

    def _check_style(self, text: str, what: str) -> None:
        if "\\" in text:
            text = _ESCAPE.sub(_unescaped, text)
        if _FOREIGN.search(text):
            raise self.refuse(what)

    def _end(self, _: str) -> None:
        name, node = self.open.pop()
        if name == "style":
            text = "".join(self.texts)
            self._check_style(text, "a style that loads another file is refused; remove it")
            self.styles.append(text)
        elif name == "title" and node is None and self.open and self.open[-1][1] is not None:
            parent = self.open[-1][1]
            parent.title = parent.title or "".join(self.texts).strip() or None
        if name in ("style", "title"):
            self.texts = []

    def _text(self, text: str) -> None:
        if self.open[-1][0] in ("style", "title"):
            self.texts.append(text)

    def unfold(self, node: Node, depth: int = 0) -> int:
        """How many elements ``node`` stands for once every <use> has been replaced."""
        if node.size < 0 or depth > 2 * MAX_DEPTH:
            raise UserError(f"{self.path}: a <use> refers to itself or nests too deeply; remove it")
        if node.size:
            return node.size
        node.size = -1
        total = 1
        for child in node.children:
            total += self.unfold(child, depth + 1)
        if node.name == "use" and node.target in self.ids:
            total += self.unfold(self.ids[node.target], depth + 1)
        if total > MAX_ELEMENTS:
            raise UserError(
                f"{self.path}: its <use> elements unfold to more than {MAX_ELEMENTS}; refused"
            )
        node.size = total
        return total


def _unescaped(match: re.Match[str]) -> str:
    if match[1] is None:
        return match[2]
    code = int(match[1], 16)
    return chr(code) if 0 < code <= 0x10FFFF else ""


def _as_utf8(path: AnyPath, data: bytes) -> bytes:
    """The file in UTF-8; what it declares itself is read here, and only common encodings.

    Expat asks Python for those it does not know, and some of Python's answer with exceptions.
    """
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        name = "utf-16"
    elif data.startswith(codecs.BOM_UTF8):
        name = "utf-8-sig"
    elif b"<\0" in data[:8] or b"\0<" in data[:8]:
        name = "utf-16-le" if data[:2].endswith(b"\0") else "utf-16-be"
    else:
        declared = _DECLARED.match(data)
        name = declared[1].decode("ascii") if declared else "utf-8"
        if not _ENCODINGS.fullmatch(name):
            raise UserError(f"{path}: the text encoding {name!r} is refused; save it as UTF-8")
    try:
        text = data.decode(name)
    except (UnicodeError, LookupError):
        raise UserError(f"{path}, line 1: not well-formed XML (its text is not {name})") from None
    return text.encode("utf-8", "replace")


def read_tree(path: AnyPath, data: bytes) -> Document:
    """The tree of an SVG's drawn elements.

    Raises:
        UserError: declarations in a DTD, an external reference or style sheet, too many elements,
            an uncommon text encoding, or it is not well-formed; names the line.
    """
    if len(data) > MAX_SVG:
        raise UserError(f"{path} is larger than {MAX_SVG // MIB} MiB; simplify or split it")
    builder = _Builder(path)
    parser: Any = builder.parser
    try:
        parser.Parse(_declared_utf8(_as_utf8(path, data)), True)
    except expat.ExpatError as error:
        what = expat.ErrorString(error.code)
        raise UserError(f"{path}, line {error.lineno}: not well-formed XML ({what})") from None
    assert builder.root is not None  # expat: no document without an element
    builder.unfold(builder.root)
    return Document(builder.root, builder.ids, "\n".join(builder.styles))


def _declared_utf8(data: bytes) -> bytes:
    """With the encoding's name in the XML declaration blanked: by now it is UTF-8."""
    match = _DECLARED.match(data)
    if match is None:
        return data
    start, end = match.span(1)
    return data[:start] + b"UTF-8" + data[end:]
