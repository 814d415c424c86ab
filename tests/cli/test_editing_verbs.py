import json
from xml.etree import ElementTree

import numpy as np
import pytest

from sketchknitter import io
from sketchknitter.cli import edits, main
from sketchknitter.editing import classify as guessing
from sketchknitter.editing import heal as healing
from sketchknitter.sketch import Sketch
from tiny_model import half, tiny

FAST = ("--steps", "3")
PLAIN = ("--perceptual", "0")  # of heal and vary


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    tiny().checkpoint.save(path)
    return str(path)


@pytest.fixture(autouse=True)
def no_guide(monkeypatch):
    monkeypatch.setattr(guessing, "guide", lambda *device: None)
    monkeypatch.setattr(healing, "guide", lambda *device: None)


@pytest.fixture
def drawing(tmp_path):
    """A foreign SVG whose units are not its px, with other content."""
    path = tmp_path / "half.svg"
    points = " ".join(f"{x:.3f},{y:.3f}" for x, y in half().strokes[0])
    path.write_text(
        '<svg xmlns="http://www.w3.org/2000/svg" width="600" height="300" viewBox="0 0 300 150">'
        f'<text x="3" y="9">my poster</text><polyline points="{points}" stroke="red" fill="none"/>'
        '<path d="M0,60 L80,90 L90,40" stroke="black" fill="none"/></svg>'
    )
    return path


def fails(argv: list[str], capsys) -> str:
    with pytest.raises(SystemExit) as stop:
        main(argv)
    assert stop.value.code == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ")
    assert "\n" not in error
    return error


def test_complete_writes_endings_in_the_inputs_coordinates(weights, drawing, tmp_path, capsys):
    out = tmp_path / "done.ndjson"
    options = ["-n", "6", "--class", "box", "--seed", "3", "--model-path", weights, *FAST]
    main(["complete", str(drawing), *options, "-o", str(out)])
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert len(lines) == 6
    assert {line["word"] for line in lines} == {"box"}
    before = Sketch.open(drawing)
    assert before.extent > 390  # CSS px: twice the units of the viewBox
    for line in lines:
        for stroke in before.strokes:
            gaps = [
                np.abs(np.array(s).T - stroke).max()
                for s in line["drawing"]
                if np.array(s).T.shape == stroke.shape
            ]
            assert min(gaps) <= 1e-3
    said = capsys.readouterr().out
    assert "as box" in said
    assert "% of the size apart on average" in said
    again = tmp_path / "again.ndjson"
    main(["complete", str(drawing), *options, "-o", str(again)])
    assert again.read_bytes() == out.read_bytes()


def test_complete_names_the_class_it_guessed(weights, drawing, tmp_path, capsys):
    out = tmp_path / "done.svg"
    main(["complete", str(drawing), "-n", "2", "-o", str(out), "--model-path", weights, *FAST])
    assert "(guessed; --class names another)" in capsys.readouterr().out
    assert out.read_text().startswith("<svg")


def test_complete_says_when_there_is_nothing_to_add(
    weights, drawing, tmp_path, capsys, monkeypatch
):
    words = ["complete", str(drawing), "-n", "2", "--class", "box", "--model-path", weights, *FAST]
    words += ["-o", str(tmp_path / "done.svg")]
    complete = "sketchknitter.editing.complete.complete"
    monkeypatch.setattr(complete, lambda model, sketch, n, **options: [sketch] * n)
    main([*words, "--more", "9"])
    assert "looks finished" not in capsys.readouterr().out
    main(words)
    assert "nothing was added: it looks finished; --more" in capsys.readouterr().out


def test_complete_asks_for_strokes_to_go_on_only_where_it_is_told_to(
    weights, drawing, tmp_path, monkeypatch
):
    asked: list[bool | None] = []

    def complete(model, sketch, n, *, goes_on, **options):
        asked.append(goes_on)
        return [sketch] * n

    monkeypatch.setattr("sketchknitter.editing.complete.complete", complete)
    words = ["complete", str(drawing), "-n", "2", "--class", "box", "--model-path", weights, *FAST]
    words += ["-o", str(tmp_path / "done.svg")]
    main(words)
    main([*words, "--goes-on"])
    assert asked == [None, True]


def test_complete_inside_keeps_the_rest_of_the_file(weights, drawing, tmp_path):
    out = tmp_path / "poster.svg"
    options = ["--class", "none", "--model-path", weights, *FAST]
    main(["complete", str(drawing), "-n", "1", "--inside", "-o", str(out), *options])
    main(["complete", str(drawing), "-n", "1", "-o", str(tmp_path / "one.ndjson"), *options])
    text, old = out.read_text(), drawing.read_text()
    assert text.startswith(old.removesuffix("</svg>"))
    assert "my poster" in text
    inside, alone = Sketch.open(out), Sketch.open(tmp_path / "one.ndjson")
    assert len(inside) == len(alone) > 2
    assert np.allclose(inside.points, alone.points, atol=0.01)


def test_complete_inside_speaks_of_strokes_as_svg_does_whatever_the_file_calls_its_own(
    weights, tmp_path
):
    source, out = tmp_path / "prefixed.svg", tmp_path / "out.svg"
    source.write_text(
        '<svg:svg xmlns:svg="http://www.w3.org/2000/svg" width="200" height="200">'
        '<svg:path d="M10 10 L150 20 L90 90"/></svg:svg>'
    )
    argv = ["complete", str(source), "-n", "1", "--inside", "-o", str(out)]
    main([*argv, "--class", "none", "--model-path", weights, *FAST])
    root = ElementTree.fromstring(out.read_text())
    assert len(root) == 2
    assert {e.tag.split("}")[0] for e in root.iter()} == {"{http://www.w3.org/2000/svg"}


def test_a_class_is_called_guessed_only_where_it_was(weights, tmp_path, capsys):
    for word, note in (("box", "the file's own word"), ("zzz", "guessed"), (None, "guessed")):
        path = tmp_path / "one.ndjson"
        io.write([half().with_label(word)], path)
        for verb in ("complete", "heal", "vary"):
            out = ["-o", str(tmp_path / "out.ndjson"), "--model-path", weights]
            main([verb, str(path), *out, *(FAST if verb == "complete" else [])])
            assert f"({note}; --class names another)" in capsys.readouterr().out


def test_a_few_classes_are_named_and_the_others_counted():
    names = [f"kind {i}" for i in range(9)]
    asked = edits.Drawing(label="box")
    words = edits.taken_for(tiny(), asked, half(), names)
    assert words == "as kind 0, kind 1, kind 2, kind 3, kind 4, kind 5 and 3 more"
    assert edits.taken_for(tiny(), asked, half(), names[:6]) == words.removesuffix(" and 3 more")


def test_a_crowd_of_strokes_is_spoken_of(weights, tmp_path, capsys):
    path = tmp_path / "crowd.ndjson"
    io.write([Sketch([[[9 * i, j], [9 * i + 5, j + 4]] for i in range(7) for j in range(9)])], path)
    main(["heal", str(path), "-o", str(tmp_path / "out.ndjson"), "--model-path", weights])
    assert "63 strokes; the model sees the longest, the others stay" in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["heal", "vary"])
def test_strength_0_changes_nothing_but_the_name(weights, drawing, tmp_path, capsys, verb):
    out = tmp_path / "same.ndjson"
    argv = [verb, str(drawing), "--strength", "0", "-o", str(out), "--model-path", weights]
    main([*argv, "--class", "box"])
    assert "strength 0 changes nothing" in capsys.readouterr().out
    for same in io.read(out):
        assert same.label == "box"
        assert np.allclose(same.points, Sketch.open(drawing).points, atol=1e-3)
    assert "no class" in fails([*argv, "--class", "zzz"], capsys)


def test_interpolate_says_what_it_draws(weights, drawing, tmp_path, capsys):
    out = ["-o", str(tmp_path / "way.svg"), "--model-path", weights, "--steps", "3", "-n", "3"]
    main(["interpolate", str(drawing), str(drawing), *out, "--class", "box"])
    assert "drawn as box," in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "content", "word"),
    [
        ("empty.svg", '<svg xmlns="http://www.w3.org/2000/svg"></svg>', "no line"),
        (
            "dot.svg",
            '<svg xmlns="http://www.w3.org/2000/svg"><path d="M5,5h0" stroke="black"/></svg>',
            "dot",
        ),
        ("empty.ndjson", "", "empty"),
        ("far.ndjson", '{"drawing":[[[0,1e300,2e300],[0,1e300,0]]]}', "large"),
        ("huge.ndjson", '{"drawing":[[[0,1e308],[0,-1e308]],[[-1e308,0],[0,1]]]}', "large"),
    ],
)
@pytest.mark.parametrize("verb", ["complete", "heal", "vary"])
def test_nothing_to_go_on_is_one_line_and_no_file(
    weights, tmp_path, capsys, verb, name, content, word
):
    path, out = tmp_path / name, tmp_path / "out.svg"
    path.write_text(content)
    argv = [verb, str(path), "-o", str(out), "--model-path", weights]
    error = fails(argv, capsys)
    assert name in error
    assert word in error
    assert not out.exists()


def test_two_drawings_in_a_file_take_the_first_and_say_so(weights, tmp_path, capsys):
    path, out = tmp_path / "two.ndjson", tmp_path / "out.ndjson"
    io.write([half(), half(2.0)], path)
    argv = ["complete", str(path), "-n", "1", "-o", str(out), "--model-path", weights, *FAST]
    main([*argv, "--class", "none"])
    assert "more than one drawing" in capsys.readouterr().err
    assert np.allclose(Sketch.open(out).strokes[0], Sketch.open(path).strokes[0], atol=1e-3)


def test_wrong_options_are_refused_before_any_work(weights, drawing, tmp_path, capsys):
    out = ["-o", str(tmp_path / "x.svg"), "--model-path", weights]
    assert "no class" in fails(["complete", str(drawing), "--class", "zebra", *out], capsys)
    assert "-n 1" in fails(["complete", str(drawing), "--inside", *out], capsys)
    assert "--heal must lie in" in fails(["complete", str(drawing), "--heal", "2", *out], capsys)
    more = ["complete", str(drawing), "--method", "guided", "--more", "9", *out]
    assert "--more is of the plain way" in fails(more, capsys)
    assert "stroke numbers" in fails(["heal", str(drawing), "--keep", "²", *out], capsys)
    latin = drawing.with_name("latin.svg")
    text = drawing.read_text().replace("</svg>", "<!-- caf\xe9 --></svg>")
    latin.write_bytes(('<?xml version="1.0" encoding="latin-1"?>' + text).encode("latin-1"))
    inside = ["complete", str(latin), "-n", "1", "--inside", *out]
    assert "latin.svg: --inside needs an .svg file in UTF-8" in fails(inside, capsys)
    assert "0,2" in fails(["heal", str(drawing), "--keep", "a", *out], capsys)
    assert "no stroke 9" in fails(["heal", str(drawing), "--keep", "9", *out], capsys)
    assert "strength" in fails(["heal", str(drawing), "--strength", "2", *out], capsys)
    for verb in ("complete", "heal", "vary"):
        for option, value in (("steps", "0"), ("guidance", "-1"), ("eta", "2"), ("threads", "-1")):
            error = fails([verb, str(drawing), f"--{option}", value, *out], capsys)
            assert error.startswith(f"error: --{option} must")
    two = [str(drawing), str(drawing)]
    assert "--steps must" in fails(["interpolate", *two, "--steps", "0", *out], capsys)
    assert not list(tmp_path.glob("x.*"))


def test_heal_says_when_there_is_nothing_to_change(weights, drawing, tmp_path, capsys, monkeypatch):
    words = ["heal", str(drawing), "--class", "box", "--model-path", weights, *FAST]
    words += ["-o", str(tmp_path / "same.svg")]
    main([*words, "--strength", "0.5"])
    assert "nothing was changed" not in capsys.readouterr().out
    heal = "sketchknitter.editing.heal.heal"
    monkeypatch.setattr(heal, lambda model, sketch, *others, **options: sketch.with_label("box"))
    main(words)
    assert "nothing was changed: it looks clean; --strength" in capsys.readouterr().out


def test_heal_at_strength_zero_gives_the_drawing_back(weights, drawing, tmp_path):
    out = tmp_path / "same.svg"
    main(["heal", str(drawing), "--strength", "0", "-o", str(out), "--model-path", weights])
    assert np.allclose(Sketch.open(out).points, Sketch.open(drawing).points, atol=1e-3)


def test_heal_keeps_locked_strokes(weights, drawing, tmp_path, capsys):
    out = tmp_path / "ok.ndjson"
    options = ["--strength", ".4", "--keep", "1", "--class", "cup", "--model-path", weights]
    main(["heal", str(drawing), *options, "-o", str(out), *FAST])
    kept = Sketch.open(drawing).strokes[1]
    assert any(s.shape == kept.shape and np.allclose(s, kept) for s in Sketch.open(out).strokes)
    assert "as cup" in capsys.readouterr().out


def test_vary_and_interpolate_write_what_was_asked(weights, drawing, tmp_path):
    out = tmp_path / "three.ndjson"
    main(["vary", str(drawing), "-n", "3", "-o", str(out), "--model-path", weights, *FAST])
    assert len(list(io.read(out))) == 3
    other = tmp_path / "other.ndjson"
    io.write([half(3.0, (50, 50))], other)
    path = tmp_path / "path.ndjson"
    argv = ["interpolate", str(drawing), str(other), "-n", "4", "-o", str(path)]
    main([*argv, "--class", "none", "--model-path", weights, *FAST])
    between = list(io.read(path))
    assert len(between) == 4
    assert np.allclose(between[0].points, Sketch.open(drawing).points, atol=1e-3)


def test_results_on_paper(weights, drawing, tmp_path, capsys):
    out, more = tmp_path / "a4.svg", ["--model-path", weights, *FAST, "--paper", "A4"]
    main(["complete", str(drawing), "-n", "2", *more, "-o", str(out)])
    main(["heal", str(drawing), *more, "-o", str(out)])
    main(["vary", str(drawing), "-n", "2", *more, "-o", str(out)])
    main(["interpolate", str(drawing), str(drawing), "-n", "3", *more, "-o", str(out)])
    assert 'width="210mm" height="297mm"' in out.read_text()
    inside = ["complete", str(drawing), "-n", "1", "--inside", *more, "-o", str(out)]
    assert "leave --paper out" in fails(inside, capsys)
