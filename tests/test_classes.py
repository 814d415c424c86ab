"""Class names are understood as people write them."""

from __future__ import annotations

import pytest

from sketchknitter.classes import check_names, class_index, find_class, split_names, visible
from sketchknitter.errors import UserError

CLASSES = ("cat", "coffee cup", "ice cream", "pig", "The Eiffel Tower")


@pytest.mark.parametrize(
    ("written", "index"),
    [
        ("cat", 0),
        ("Cat", 0),
        (" CAT ", 0),
        ("coffee_cup", 1),
        ("Coffee-Cup", 1),
        ("ice  cream", 2),
        ("the eiffel tower", 4),
    ],
)
def test_case_and_spaces_do_not_matter(written: str, index: int) -> None:
    assert class_index(CLASSES, written) == index


@pytest.mark.parametrize("written", ["cot", "", "icecreams", "zebra"])
def test_other_words_are_no_class(written: str) -> None:
    assert find_class(CLASSES, written) is None
    with pytest.raises(UserError, match="this model draws: cat, coffee cup"):
        class_index(CLASSES, written)


def test_the_nearest_is_named() -> None:
    with pytest.raises(UserError, match="did you mean 'coffee cup'"):
        class_index(CLASSES, "Coffe_Cup")


def test_of_many_classes_only_the_nearest_are_listed() -> None:
    many = [f"thing {i}" for i in range(300)] + ["teapot"]
    with pytest.raises(UserError) as caught:
        class_index(many, "teepot")
    assert "did you mean 'teapot'?" in str(caught.value)
    assert "more" in str(caught.value)
    assert len(str(caught.value)) < 250


def test_an_exact_name_wins_and_an_ambiguous_one_is_none() -> None:
    assert class_index(("Cat", "cat"), "cat") == 1
    assert find_class(("Cat", "cat"), "CAT") is None


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["cat,pig"], ["cat", "pig"]),
        (["cat", "pig"], ["cat", "pig"]),
        (["ice", "cream"], ["ice cream"]),
        (["ice cream"], ["ice cream"]),
        (["cat, ice cream,"], ["cat", "ice cream"]),
        (["cow,pig"], ["cow", "pig"]),
        ([], []),
    ],
)
def test_words_of_a_command_line(words: list[str], names: list[str]) -> None:
    assert split_names(words, CLASSES) == names


def test_what_is_not_seen_is_escaped_and_no_class_name() -> None:
    assert visible("été 👩\u200d🎨.svg") == "été 👩\u200d🎨.svg"
    assert visible("\x1b[31m\u202egnp\n") == r"\x1b[31m\u202egnp\n"
    check_names(["été", "👩\u200d🎨", "salt, pepper"])
    for name in ("a\nb", "\x1b[31m", "\u202egnp", "\ud800"):
        with pytest.raises(ValueError, match=r"not seen"):
            check_names(["cat", name])


def test_a_class_with_a_comma_is_one_class() -> None:
    assert split_names(["salt, pepper"], ("salt, pepper", "cat")) == ["salt, pepper"]
