"""What of CSS decides whether a line is drawn: display, visibility, stroke, fill, transform."""

from __future__ import annotations

import re

_PROPERTIES = ("display", "visibility", "stroke", "fill", "transform")
_SELECTOR = re.compile(r"(\*|[\w-]+)?((?:[.#][\w-]+)*)")
_PART = re.compile(r"([.#])([\w-]+)")
_MAX_RULES = 10_000

Declarations = dict[str, str]


def declarations(text: str) -> Declarations:
    """The properties we know of a ``style`` attribute or the body of a rule."""
    out: Declarations = {}
    for entry in text.split(";"):
        name, _, value = entry.partition(":")
        name = name.strip().lower()
        if name in _PROPERTIES:
            out[name] = value.replace("!important", "").strip().lower()
    return out


class StyleSheet:
    """Rules for tags, classes and ids, alone or joined (``path.thin``); others match nothing."""

    def __init__(self, text: str) -> None:
        self._rules: dict[str, list[tuple[int, int, str, frozenset[str], Declarations]]] = {}
        count = 0
        for rule in _without_comments(text).split("}")[:_MAX_RULES]:
            selectors, brace, body = rule.rpartition("{")
            known = declarations(body) if brace else {}
            if not known:
                continue
            # the innermost block of @media {…}, and what stands after @charset …;
            selectors = selectors.rpartition("{")[2].rpartition(";")[2]
            for selector in selectors.split(","):
                count += 1
                self._add(selector.strip(), count, known)

    def _add(self, selector: str, order: int, known: Declarations) -> None:
        match = _SELECTOR.fullmatch(selector) if 0 < len(selector) < 200 else None
        if match is None:
            return
        tag, parts = match[1] or "*", _PART.findall(match[2])
        needs = frozenset(mark + name for mark, name in parts)
        weight = 100 * sum(m == "#" for m, _ in parts) + 10 * sum(m == "." for m, _ in parts)
        weight += tag != "*"
        # found by one of its parts, so that an element looks at few rules
        key = next(iter(sorted(needs)), tag)
        self._rules.setdefault(key, []).append((weight, order, tag, needs, known))

    def of(self, tag: str, classes: str, name: str) -> Declarations:
        """What the sheet says of an element, the most specific rule last."""
        if not self._rules:
            return {}
        own = {"." + c for c in classes.split()[:100]}
        if name:
            own.add("#" + name)
        found = [
            rule
            for key in (*own, tag, "*")
            for rule in self._rules.get(key, ())
            if rule[2] in (tag, "*") and rule[3] <= own
        ]
        out: Declarations = {}
        for *_, known in sorted(found, key=lambda rule: rule[:2]):
            out |= known
        return out


def _without_comments(text: str) -> str:
    parts = []
    at = 0
    while (start := text.find("/*", at)) >= 0:
        parts.append(text[at:start])
        end = text.find("*/", start + 2)
        if end < 0:
            return "".join(parts)
        at = end + 2
    return "".join([*parts, text[at:]])
