"""ONNX: the exported network draws what torch draws."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from sketchknitter.cli import main
from sketchknitter.editing.model import SketchKnitter
from sketchknitter.errors import UserError
from sketchknitter.sketch import Sketch
from sketchknitter.systems.sketchknitter.checkpoint import Checkpoint
from sketchknitter.systems.sketchknitter.config import build_denoiser
from sketchknitter.systems.sketchknitter.export import OUTPUTS, OnnxDenoiser, export, use
from tiny_model import half, tiny

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "m.onnx"
    export(tiny(), path)
    return path


def test_inputs_outputs_and_notes(exported: Path) -> None:
    graph = onnx.load(exported)
    onnx.checker.check_model(graph)
    assert tuple(i.name for i in graph.graph.input) == ("x", "t", "label", "mask")
    assert tuple(o.name for o in graph.graph.output) == OUTPUTS
    (notes,) = [json.loads(p.value) for p in graph.metadata_props if p.key == "sketchknitter"]
    assert notes["classes"] == ["arc", "box", "cup"]


@pytest.mark.parametrize(("batch", "points"), [(1, 7), (2, 8), (5, 33)])
def test_any_batch_and_length(exported: Path, batch: int, points: int) -> None:
    model = tiny()
    runtime = OnnxDenoiser(exported, model.denoiser, threads=1)
    x = torch.randn(batch, points, model.width)
    t = torch.randint(0, 1000, (batch,))
    label = torch.randint(0, 4, (batch,))
    mask = torch.arange(points)[None] < torch.randint(2, points + 1, (batch, 1))
    with torch.no_grad():
        ours, theirs = model.denoiser(x, t, label, mask), runtime(x, t, label, mask)
    for name in OUTPUTS:
        a, b = (getattr(out, name)[mask] for out in (ours, theirs))
        assert a == pytest.approx(b, abs=1e-4), name


def close(ours: list[Sketch], theirs: list[Sketch]) -> None:
    for a, b in zip(ours, theirs, strict=True):
        assert [len(s) for s in a.strokes] == [len(s) for s in b.strokes]
        assert np.abs(a.points - b.points).max() < 1e-3  # px


def test_twenty_whole_trajectories(exported: Path) -> None:
    model = tiny()
    plain = model.sample(n=20, steps=12, seed=3)
    use(model, exported, threads=1)
    assert isinstance(model.denoiser, OnnxDenoiser)
    close(plain, model.sample(n=20, steps=12, seed=3))


def test_a_model_that_onnxruntime_evaluates_is_shown_and_saved_but_not_moved(
    exported: Path, tmp_path: Path
) -> None:
    model = tiny()
    shown = repr(model)
    model.save_pretrained(tmp_path / "torch")
    use(model, exported, threads=1)
    assert repr(model) == shown
    model.save_pretrained(tmp_path / "runtime")
    files = (tmp_path / f / "model.safetensors" for f in ("torch", "runtime"))
    kept, again = map(Checkpoint.load, files)
    assert kept.weights.keys() == again.weights.keys()
    assert all(torch.equal(v, again.weights[k]) for k, v in kept.weights.items())
    for change in ({"device": "cpu"}, {"dtype": "bfloat16"}):
        with pytest.raises(UserError, match="load it again to move it"):
            model.to(**change)
    assert model.dtype == torch.float32
    with pytest.raises(UserError, match="onnxruntime evaluates this model; load it again"):
        export(model, tmp_path / "again.onnx")
    assert not (tmp_path / "again.onnx").exists()
    assert len(model.sample(n=1, steps=2)) == 1


def test_a_student_with_conditions(tmp_path: Path) -> None:
    base = tiny(conditions=True)
    torch.manual_seed(1)
    student = build_denoiser(base.config, guided=True).eval()
    with torch.no_grad():
        for p in student.parameters():
            p.add_(0.05 * torch.randn_like(p))
    weights = {f"distilled.{k}": v for k, v in student.state_dict().items()}
    base.checkpoint.extras |= weights
    base.checkpoint.notes["distilled"] = {"steps": 4, "way": "consistency", "guidance": 2.0}
    path = tmp_path / "student.onnx"
    model = SketchKnitter(base.checkpoint)
    export(model, path)
    graph = onnx.load(path)
    names = tuple(i.name for i in graph.graph.input)
    assert names == ("x", "t", "label", "mask", "condition", "weight")
    (notes,) = [json.loads(p.value) for p in graph.metadata_props if p.key == "sketchknitter"]
    assert notes["student"] == {"steps": 4, "way": "consistency", "guidance": 2.0}
    plain, healed = model.sample(n=20, seed=3), model.heal(half(), 0.3, label="box", seed=2)
    use(model, path, threads=1)
    close(plain, model.sample(n=20, seed=3))
    close([healed], [model.heal(half(), 0.3, label="box", seed=2)])
    with pytest.raises(UserError, match="onnxruntime evaluates this model"):
        model.to("cpu")
    assert "4 evaluations a drawing" in repr(model)
    with pytest.raises(UserError, match="condition, weight; export it again"):
        OnnxDenoiser(path, model.denoiser)


def test_what_is_no_model(exported: Path, tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(b"nothing")
    with pytest.raises(UserError, match="no ONNX file"):
        OnnxDenoiser(tmp_path / "a.onnx", tiny().denoiser)
    other = onnx.load(exported)
    other.graph.input[0].name = "y"
    for node in other.graph.node:
        node.input[:] = ["y" if name == "x" else name for name in node.input]
    onnx.save(other, tmp_path / "b.onnx")
    with pytest.raises(UserError, match="its inputs are y, t, label, mask; export it again"):
        OnnxDenoiser(tmp_path / "b.onnx", tiny().denoiser)


def test_the_verb_refuses_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, reason in {"m.pt": "is an .onnx file", "no/m.onnx": "no such folder"}.items():
        with pytest.raises(SystemExit):
            main(["export", str(tmp_path / name)])
        assert reason in capsys.readouterr().err
