"""Class names as people write them: ``Cat``, ``coffee_cup`` and ``cat,pig`` are understood."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from difflib import get_close_matches

from sketchknitter.errors import UserError

NO_CLASS = "none"
WELL_KNOWN = 300  # training drawings of a class from which on a model knows it well
LISTED = 40  # classes that a message lists
_UNSEEN = ("Cc", "Cf", "Cs", "Zl", "Zp")  # Unicode categories that no class name needs
_JOINERS = "\u200c\u200d"  # but these two, of Persian and of emoji


def is_seen(character: str) -> bool:
    """Whether a character neither controls a terminal nor turns the direction of text."""
    return character in _JOINERS or unicodedata.category(character) not in _UNSEEN


def visible(text: str) -> str:
    """Text that others chose, such as a file's name, with escapes for what is not seen."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if is_seen(c) else c.encode("unicode_escape").decode() for c in text)


def check_names(names: Iterable[str]) -> None:
    """Refuse class names that a terminal or a command line would not show as they are.

    Raises:
        ValueError: one holds a line break, a control character or the like.
    """
    if bad := next((n for n in names if not all(map(is_seen, n))), None):
        raise ValueError(f"the class name {visible(bad)!r} holds characters that are not seen")


def plain(name: str) -> str:
    """A name without what people vary: case, ``_`` or ``-`` for a space, spaces at the ends."""
    return " ".join(name.replace("_", " ").replace("-", " ").casefold().split())


def find_class(classes: Sequence[str], name: str) -> str | None:
    """The class that ``name`` means: itself, or the only one that reads the same, or None."""
    if name in classes:
        return name
    alike = [c for c in classes if plain(c) == plain(name)]
    return alike[0] if len(alike) == 1 else None


def class_index(classes: Sequence[str], name: str, whose: str = "this model draws") -> int:
    """Index of a class by name.

    Args:
        whose: begins the list of known classes in the error.

    Raises:
        UserError: an unknown class; the message lists the known ones, or of many the nearest.
    """
    found = find_class(classes, name)
    if found is not None:
        return list(classes).index(found)
    near = get_close_matches(plain(name), [plain(c) for c in classes], n=1)
    hint = f"did you mean {next(c for c in classes if plain(c) == near[0])!r}? " if near else ""
    raise UserError(f"no class {name!r}; {hint}{whose}: {_listed(classes, name)}")


def _listed(classes: Sequence[str], name: str) -> str:
    """All classes; of many only those whose names are like ``name``, and how many more."""
    if len(classes) <= LISTED:
        return ", ".join(classes) or "no classes"
    near = get_close_matches(plain(name), [plain(c) for c in classes], n=8, cutoff=0.4)
    shown = [c for c in classes if plain(c) in near] or list(classes[:8])
    return f"{', '.join(shown)} and {len(classes) - len(shown)} more"


def split_names(words: Iterable[str], classes: Sequence[str] | None = None) -> list[str]:
    """Class names from words of a command line: ``cat,pig``, ``cat pig``, ``ice cream``.

    Args:
        words: each holds one name, or several with commas between.
        classes: the known classes; words that only name one of them together are joined.
    """
    words = [w for w in words if w.strip()]
    if classes is not None and len(words) > 1:
        alone = all(find_class(classes, w) for w in words)
        whole = find_class(classes, " ".join(words))
        if whole is not None and not alone:
            return [whole]
    out: list[str] = []
    for word in words:
        if classes is not None and find_class(classes, word) is not None:
            out.append(word)
        else:
            out += [part.strip() for part in word.split(",") if part.strip()]
    return out
