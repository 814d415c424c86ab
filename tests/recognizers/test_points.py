"""The reader: what it is given, that padding does not matter, and what the shipped one can do."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sketchknitter import UserError
from sketchknitter.data.roughen import Roughness, roughened
from sketchknitter.recognizers.points import Reader, ReaderShape, as_read

POINTS = np.array([[10.0, 10], [30, 10], [30, 50], [10, 20]])
ENDS = np.array([False, True, False, True])
STILL = Roughness(rotation=0, stretch=0, mirror=0, smooth=1, cut=0, late=0, torn=0)


def small() -> Reader:
    torch.manual_seed(0)
    reader = Reader(["a", "b", "c"], ReaderShape((8, 12, 16), 2)).eval()
    with torch.no_grad():  # zero at the start would hide what padding does
        for p in reader.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return reader


def test_input_is_centered_and_scaled():
    read = as_read(POINTS, ENDS, True)
    assert read.shape == (4, 6)
    assert np.allclose(read[:, :2], [[-0.5, -1], [0.5, -1], [0.5, 1], [-0.5, -0.5]])
    assert np.allclose(read[:, 2:4], [[0, 0], [1, 0], [0, 2], [-1, -1.5]])
    assert read[:, 4].tolist() == [0, 1, 0, 1]
    assert (read[:, 5] == 1).all()
    again = as_read(POINTS * 7 - 300, ENDS, True)
    assert np.allclose(again, read, atol=1e-6)


def test_padding_changes_nothing():
    reader, rows = small(), torch.from_numpy(as_read(POINTS, ENDS, False))[None]
    mask = torch.ones(1, 4, dtype=torch.bool)
    alone = reader(rows, mask)
    wide = torch.cat([rows, torch.full((1, 5, 6), 9.0)], dim=1)
    more = torch.cat([mask, torch.zeros(1, 5, dtype=torch.bool)], dim=1)
    assert torch.allclose(reader(wide, more), alone, atol=1e-5)
    assert not torch.allclose(reader(rows.flip(1), mask), alone, atol=1e-3)


def test_file_round_trip_and_bad_files(tmp_path):
    reader, path = small(), tmp_path / "r.safetensors"
    reader.save(path, {"seconds": 1})
    again = Reader.load(path)
    assert again.classes == reader.classes
    a, b = (r.log_probabilities(POINTS, ENDS, True) for r in (reader, again))
    assert np.allclose(a, b, atol=0.02)
    with pytest.raises(UserError, match="no readable reader weights"):
        Reader.load(tmp_path / "none.safetensors")
    guide = Path(os.fspath(path)).with_name("g.safetensors")
    guide.write_bytes(path.read_bytes().replace(b"reader/1", b"riddle/1"))
    with pytest.raises(UserError, match="not a reader"):
        Reader.load(guide)


def test_roughness_does_what_it_says():
    rng = np.random.default_rng(0)
    points, ends, finished = roughened(POINTS, ENDS, STILL, rng)
    assert finished
    assert np.array_equal(points, POINTS)
    assert np.array_equal(ends, ENDS)
    half = replace(STILL, cut=1, left=(0.75, 0.75))
    points, ends, finished = roughened(POINTS, ENDS, half, rng)
    assert not finished
    assert np.array_equal(points, POINTS[:3])
    assert ends.tolist() == [False, True, True]  # the line breaks off where the pencil stopped
    late = replace(STILL, late=1, left=(0.5, 0.5))
    assert np.array_equal(roughened(POINTS, ENDS, late, rng)[0], POINTS[2:])
    off = replace(STILL, smooth=0, deformation=(0.1, 0.1))
    moved = np.concatenate([roughened(POINTS, ENDS, off, rng)[0] - POINTS for _ in range(500)])
    assert moved.std() == pytest.approx(0.1 * 40, rel=0.05)


def test_the_shipped_reader_knows_rough_and_half_drawings():
    data = os.environ.get("SKETCHKNITTER_DATA")
    if not data:
        pytest.skip("SKETCHKNITTER_DATA is not set")
    from sketchknitter.data.outline import outline
    from sketchknitter.data.prepare import open_data

    test, reader, rng = (
        open_data([f"{data}/quickdraw"]).test,
        Reader.load(),
        np.random.default_rng(0),
    )
    laws = {
        "whole": STILL,
        "rough": replace(STILL, smooth=0, deformation=(0.1, 0.1)),
        "half": replace(STILL, cut=1, left=(0.5, 0.5)),
    }
    lot = rng.permutation(len(test))[:150]
    right = dict.fromkeys(laws, 0)
    for i in lot.tolist():
        drawing = test.sketch(i)
        seen = outline(drawing)
        for name, law in laws.items():
            found = reader.log_probabilities(*roughened(seen.points, seen.ends, law, rng))
            right[name] += reader.classes[int(found.argmax())] == drawing.label
    shares = {name: count / len(lot) for name, count in right.items()}
    asked = {"whole": 0.85, "rough": 0.6, "half": 0.5}
    assert all(shares[name] > share for name, share in asked.items()), shares
