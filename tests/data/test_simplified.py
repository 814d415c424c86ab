"""The fast lane reads what the careful way reads, or says that it cannot."""

from __future__ import annotations

import json

import numpy as np
import pytest

from sketchknitter.data.simplified import parse_simplified
from sketchknitter.io.ndjson import parse_block

DRAWING = [[[0, 255, 9], [0, 40, 80]], [[7], [9]], [[12, 130], [99, 100]]]
HEAD = '{"word":"cat","countrycode":"é","key_id":"5","recognized":true,"drawing":'


def line(drawing: object = DRAWING, head: str = HEAD) -> bytes:
    return f"{head}{json.dumps(drawing, separators=(',', ':'))}}}".encode()


def check(lines: list[bytes]) -> bool:
    """Whether the fast lane reads ``lines``; then as the careful way does."""
    quick, careful = parse_simplified(lines), parse_block(lines)
    if quick is None:
        return False
    assert not careful.rejects
    assert list(quick.words) == careful.words
    np.testing.assert_array_equal(quick.xy, careful.xy)
    np.testing.assert_array_equal(quick.stroke_lengths, careful.stroke_lengths)
    np.testing.assert_array_equal(quick.drawing_strokes, careful.drawing_strokes)
    return True


def test_simplified_lines_are_read() -> None:
    assert check([line()])
    assert check([line([[[i], [255 - i]]]) for i in range(256)])
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 12, (200, 5))
    assert check([line([rng.integers(0, 256, (2, n)).tolist() for n in own]) for own in lengths])
    spaced = json.dumps({"word": "cat", "drawing": DRAWING}).encode()
    assert check([spaced, spaced])
    assert check([line(head='{"drawing":'), line(head='{"word":null,"drawing":'), line()])


@pytest.mark.parametrize(
    "bad",
    ["[]", "[[]]", "[[[],[]]]", "[[[1]]]", "[[[1],[2],[3]]]", "[[[1,2],[2]]]", "[[[1],[2]],]",
     "[[[1],[2]]]]", "[[[1],[2]]],[[[1],[2]]]", "[[[256],[2]]]", "[[[1000],[2]]]", "[[[01],[2]]]",
     "[[[-1],[2]]]", "[[[1.5],[2]]]", "[[[1e1],[2]]]", "[[[1,],[2]]]", "[[[,1],[2]]]",
     "[[[1,,2],[2,3]]]", "[[[1][2]]]", "[[[1],[2]][[1],[2]]]", "[[[1],[2]],5,[[1],[2]]]",
     "[5,[[1],[2]]]", "[[[[1]],[2]]]", "[[[1],[2]]", "", "null", "[[[1 2],[3,4]]]", '[[["1"],[2]]]',
     "[[[00],[2]]]", "[[[1],[2]]],", "[[1],[2]]", "[[[1],2]]", "[[[1],[2],]]"],
)  # fmt: skip
def test_nothing_else_is(bad: str) -> None:
    whole = f"{HEAD}{bad}}}".encode()
    for lines in ([whole], [line(), whole], [whole, line()], [line(), whole, line()]):
        check(lines)
        assert parse_simplified(lines) is None
    with_more = f'{HEAD}[[[1],[2]]],"x":{bad or 0}}}'.encode()
    assert parse_simplified([line(), with_more, line()]) is None


@pytest.mark.parametrize(
    "head",
    ["[", '{"word":"cat"},{"drawing":', '{"word":1,"drawing":', '{"word":"a","x":{"drawing":',
     '{"word":"a","x":[{"drawing":', '1],"drawing":', '"drawing":', '{"word":"a\\","drawing":',
     '{"word":"cat"', '{"word" "cat","drawing":', '{"a":1},{"drawing":', ' {"drawing":'],
)  # fmt: skip
def test_no_line_ends_in_another(head: str) -> None:
    for lines in ([line(head=head)], [line(), line(head=head), line()]):
        assert parse_simplified(lines) is None
    # lines that would be right if they were one
    odd = [line(head='{"x":[{"drawing":'), line(head='1],"drawing":'), line(head='{},{"drawing":')]
    assert parse_simplified(odd) is None


def test_lines_that_are_no_text() -> None:
    assert parse_simplified([line(), None]) is None
    assert parse_simplified([b""]) is None
    assert parse_simplified([HEAD.encode("latin-1") + line()[len(HEAD) + 1 :]]) is None


def test_changed_lines_are_read_alike_or_not_at_all() -> None:
    """Bytes changed, left out, doubled and moved at random."""
    rng = np.random.default_rng(7)
    letters = list(b'0123456789,[]{}":. -e')
    read = 0
    for _ in range(4000):
        lines = [bytearray(line(DRAWING[: rng.integers(1, 4)])) for _ in range(3)]
        own = lines[rng.integers(3)]
        for _ in range(rng.integers(1, 3)):
            at = int(rng.integers(len(own)))
            kind = rng.integers(4)
            if kind == 0:
                own[at] = rng.choice(letters)
            elif kind == 1:
                del own[at : at + int(rng.integers(1, 4))]
            elif kind == 2:
                own.insert(at, rng.choice(letters))
            else:
                own[at:at] = own[at : at + int(rng.integers(1, 9))]
        read += check([bytes(x) for x in lines])
    assert 200 < read < 3000
