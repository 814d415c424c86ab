"""Every verb, asked over HTTP."""

from __future__ import annotations

from typing import Any

import pytest
from studio_talk import WAVE


def named(events: list[tuple[str, dict[str, Any]]], name: str) -> list[dict[str, Any]]:
    return [data for event, data in events if event == name]


def test_endings_leave_what_was_drawn_untouched(ask: Any) -> None:
    answer = ask("complete", strokes=WAVE, n=3, label="cup", seed=5)
    assert answer[0][0] == "queued"
    assert answer[-1][0] == "done"
    drawn = named(answer, "drawn")
    assert [d["drawing"]["index"] for d in drawn] == [0, 1, 2]
    for one in drawn:
        strokes, new = one["drawing"]["strokes"], set(one["drawing"]["new"])
        assert [s for i, s in enumerate(strokes) if i not in new] == WAVE
        assert one["drawing"]["label"] == "cup"
        assert one["seed"] == 5
    assert any(one["drawing"]["new"] for one in drawn)
    assert named(answer, "done")[0]["evaluations"] > 0


def test_the_first_ending_is_there_before_the_others_are_begun(ask: Any) -> None:
    answer = ask("complete", strokes=WAVE, n=3, label="cup")
    order = [(e, d["drawing"]["index"] if e == "drawn" else None) for e, d in answer]
    first = order.index(("drawn", 0))
    later = [d for e, d in answer[:first] if e == "frame" and d["drawings"][0]["index"] > 0]
    assert later == []
    assert any(e == "frame" for e, _ in answer[:first])


def test_frames_stand_where_the_drawing_stands(ask: Any) -> None:
    far = [[[x + 5000, y - 3000] for x, y in s] for s in WAVE]
    frames = named(ask("complete", strokes=far, n=1, label="cup"), "frame")
    assert len(frames) >= 2
    for drawing in frames[-1]["drawings"]:
        points = [p for s in drawing["strokes"] for p in s]
        assert all(4000 < x < 6500 and -4500 < y < -1500 for x, y in points)


def test_same_seed_same_endings_and_another_seed_others(ask: Any) -> None:
    def endings(seed: int) -> list[Any]:
        message = {"strokes": WAVE, "n": 2, "label": "cup", "frames": False, "seed": seed}
        return [d["drawing"] for d in named(ask("complete", **message), "drawn")]

    assert endings(3) == endings(3)
    assert endings(3) != endings(4)


def test_three_classes_are_guessed(ask: Any) -> None:
    (guess,) = named(ask("guess", strokes=WAVE), "guessed")
    p = [c["p"] for c in guess["classes"]]
    assert sorted(c["label"] for c in guess["classes"]) == ["arc", "box", "cup"]
    assert p == sorted(p, reverse=True)
    assert sum(p) == pytest.approx(1, abs=1e-3)
    assert guess["sure"] == (p[0] > 0.5)


def test_healing_keeps_locked_strokes(ask: Any) -> None:
    answer = ask("heal", strokes=WAVE, strength=0.4, keep=[1], label="cup", frames=False)
    (drawn,) = named(answer, "drawn")
    assert WAVE[1] in drawn["drawing"]["strokes"]
    assert WAVE[0] not in drawn["drawing"]["strokes"]
    assert named(answer, "frame") == []


def test_tidied_endings_keep_locked_strokes(ask: Any) -> None:
    message = {"strokes": WAVE, "n": 1, "tidy": 0.3, "keep": [0], "label": "cup"}
    (drawn,) = named(ask("complete", **message), "drawn")
    assert WAVE[0] in drawn["drawing"]["strokes"]
    assert WAVE[1] not in drawn["drawing"]["strokes"]


def test_variations_differ(ask: Any) -> None:
    drawn = named(ask("vary", strokes=WAVE, n=3, label="cup"), "drawn")
    assert len({str(d["drawing"]["strokes"]) for d in drawn}) == 3


def test_between_two_drawings_come_both_of_them(ask: Any) -> None:
    other = [[[0, 0], [100, 0], [100, 100], [0, 100]]]
    answer = ask("interpolate", a=WAVE, b=other, n=4, label_a="cup", label_b="box")
    drawn = [d["drawing"]["strokes"] for d in named(answer, "drawn")]
    assert len(drawn) == 4
    assert drawn[0] == WAVE
    assert drawn[-1] == other
    assert named(answer, "frame")


def test_a_page_of_new_drawings(ask: Any) -> None:
    answer = ask("sample", n=4, label="arc")
    drawn = named(answer, "drawn")
    assert [d["drawing"]["label"] for d in drawn] == ["arc"] * 4
    assert named(answer, "frame")[-1]["drawings"]


def test_a_class_nobody_knows_is_told(ask: Any) -> None:
    name, data = ask("complete", strokes=WAVE, label="dragon")[-1]
    assert name == "error"
    assert data["code"] == "unusable"
    assert "dragon" in data["message"]


def test_a_dot_cannot_be_finished_but_is_answered(ask: Any) -> None:
    name, data = ask("complete", strokes=[[[5, 5]]])[-1]
    assert (name, data["code"]) == ("error", "unusable")
