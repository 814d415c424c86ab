"""SketchRNN, SketchPix2seq and SketchHealer: sizes as released, and what their encoders see."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from sketchknitter.raster import render
from sketchknitter.systems import healer, pix2seq, sketchrnn
from sketchknitter.systems.autoregressive.decoder import parameter_count
from sketchknitter.systems.autoregressive.model import StrokeModel
from sketchknitter.systems.autoregressive.tokens import to_sketch, to_tokens


def total(model: torch.nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


# -- sizes -------------------------------------------------------------------------------------
def test_parameters_as_released() -> None:
    whole = sketchrnn.build(sketchrnn.PUBLISHED, 0)
    assert parameter_count(whole) == 2_186_107  # TensorFlow: one bias for each LSTM
    assert total(whole) == 2_190_203  # torch's second bias, which stays zero
    assert parameter_count(whole.encoder) == 2 * 268_288 + 131_328
    alone = sketchrnn.build(dataclasses.replace(sketchrnn.PUBLISHED, decoder_only=True), 0)
    assert parameter_count(alone) == 1_123_963
    picture = pix2seq.build(pix2seq.PUBLISHED, 0)
    assert parameter_count(picture) == 1_593_163
    assert sum(p.numel() for p in picture.encoder.layers.parameters()) == 976
    graph = healer.build(healer.PUBLISHED, 0)
    assert total(graph) == 2_624_920
    assert total(graph.encoder) == 1_104_669
    assert total(graph) - parameter_count(graph) == 10_773  # dead in the released code as well
    assert parameter_count(sketchrnn.build(sketchrnn.CPU, 0)) == 553_407


@pytest.mark.parametrize(
    "build", [sketchrnn.build, pix2seq.build, healer.build], ids=["rnn", "pix2seq", "healer"]
)
def test_classes_add_a_vector_where_the_decoder_takes_the_code(build) -> None:
    sizes = {sketchrnn.build: sketchrnn.CPU, pix2seq.build: pix2seq.CPU}.get(build, healer.CPU)
    plain, labeled = build(sizes, 0), build(sizes, 10)
    hidden, width = sizes.hidden, sizes.class_vector
    more = 11 * width + width * 2 * hidden + width * 4 * hidden
    assert total(labeled) - total(plain) == more
    condition = labeled.condition(torch.zeros(2, sizes.latent), torch.tensor([3, 10]))
    assert condition.shape == (2, sizes.latent + width)
    assert not torch.equal(condition[0], condition[1])


# -- SketchRNN ---------------------------------------------------------------------------------
def test_the_stroke_encoder_reads_both_ways_and_ignores_padding() -> None:
    encoder = sketchrnn.StrokeEncoder(6, 4, 0.0)
    for head in (encoder.mean, encoder.log_variance):
        torch.nn.init.normal_(head.weight)
    rows, lengths = torch.randn(3, 7, 5), torch.tensor([7, 4, 1])
    mean, _ = encoder(rows, lengths)
    changed = rows.clone()
    changed[1, 4:] = 99
    changed[2, 1:] = -99
    torch.testing.assert_close(encoder(changed, lengths)[0], mean)
    for i, n in enumerate(lengths.tolist()):
        forth = encoder.forth.weights(rows[i : i + 1, :n])[0][0, -1]
        back = encoder.back.weights(rows[i : i + 1, :n].flip(1))[0][0, -1]
        expected = encoder.mean(torch.cat([forth, back]))
        torch.testing.assert_close(mean[i], expected, atol=1e-5, rtol=1e-5)


# -- SketchPix2seq -----------------------------------------------------------------------------
BOX = np.array([[100.0, 0, 0], [0, 60, 0], [-100, 0, 0], [0, -60, 1]])


def test_pictures_are_black_on_white_with_a_margin_of_five_units() -> None:
    picture = pix2seq.pictures([BOX], scale=20.0)[0, 0].numpy()
    assert picture.shape == (48, 48)
    # 100 px are 5 model units, 25 units of the picture; with margins 35 of them make 48 px
    dark = picture < 128
    columns, rows = np.flatnonzero(dark.any(axis=0)), np.flatnonzero(dark.any(axis=1))
    assert columns[0] == pytest.approx(5 / 35 * 48 - 0.5, abs=1)
    assert columns[-1] == pytest.approx(30 / 35 * 48 - 0.5, abs=1)
    assert rows[-1] - rows[0] == pytest.approx(15 / 35 * 48, abs=1.5)
    assert rows[0] + rows[-1] == pytest.approx(47, abs=1)  # the shorter side is centered
    small = pix2seq.pictures([BOX / 5], scale=20.0)[0, 0].numpy()
    assert (small < 128).sum() / (picture < 128).sum() > 1.1  # a smaller drawing, wider lines


def test_the_high_pass_filter_frames_white_paper_unless_told_otherwise() -> None:
    paper = torch.full((1, 1, 48, 48), 255, dtype=torch.uint8)
    framed = pix2seq.PictureEncoder(8).edges(paper)[0, 0]
    assert framed.shape == (48, 48)
    assert framed[0, 0] == 1275
    assert framed[0, 20] == framed[20, 47] == 765
    assert not framed[1:-1, 1:-1].any()
    assert not pix2seq.PictureEncoder(8, frame=False).edges(paper).any()


@torch.no_grad()
def test_convolutions_pad_as_tensorflow_does() -> None:
    """Stride 1 pads at the bottom and right: the last row sees zeros below it."""
    encoder = pix2seq.PictureEncoder(8)
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    for layer in encoder.layers:
        layer.register_forward_hook(lambda m, i, o: seen.append((i[0], o)))
    picture = torch.randint(0, 255, (1, 1, 48, 48), dtype=torch.uint8)
    mean, _ = encoder(picture)
    assert mean.shape == (1, 8)
    assert [out.shape[-1] for _, out in seen] == [24, 24, 12, 12, 6, 6]
    x, w = F.relu(seen[0][1])[0], encoder.layers[1].weight[0]
    by_hand = sum(float(w[c, 0, b] * x[c, 23, 5 + b]) for c in range(4) for b in range(2))
    assert float(seen[1][1][0, 0, 23, 5]) == pytest.approx(by_hand, rel=1e-4)


# -- SketchHealer ------------------------------------------------------------------------------
# a bar of six segments to the right, then, after a move, four segments down
TWO_STROKES = np.array(
    [[40.0, 0, 0]] * 5 + [[40.0, 0, 1], [-100.0, 20, 0]] + [[0.0, 30, 0]] * 3 + [[0.0, 30, 1]]
)


def test_where_patches_are_cut_out() -> None:
    # points 0 and 4 of the first stroke; 7, after the move, of the second, whose count starts anew
    assert healer.patch_places(TWO_STROKES, 20) == [0, 4, 7]
    assert healer.patch_places(TWO_STROKES, 2) == [0, 4]
    dot = np.array([[5.0, 0, 1], [9, 9, 1], [20, 0, 0], [3, 0, 1]])  # a move to a dot is no ink
    assert healer.patch_places(dot, 20) == [0, 3]


def test_the_adjacency_number_by_number() -> None:
    expected = np.array(
        [
            [0.5, 0.0, 0.0, 0.0, 0.0],
            [0.5, 0.5, 0.3, 0.0, 0.0],
            [0.5, 0.3, 0.5, 0.0, 0.0],
            [0.0, 0.0, 0.0, 0.0, 0.0],  # dropped
            [0.5, 0.0, 0.0, 0.0, 0.5],
        ],
        dtype=np.float32,
    )
    centers = np.array([[0, 0], [19, 0], [100, 0]])  # the first two 0.19 of the largest distance
    np.testing.assert_array_equal(healer.adjacency(5, [1, 2, 4], centers), expected)
    centers = np.array([[0, 0], [21, 0], [100, 0]])
    assert healer.adjacency(5, [1, 2, 4], centers)[1, 2] == 0
    assert healer.adjacency(3, [], np.zeros((0, 2))).tolist() == [[0.5, 0, 0], [0] * 3, [0] * 3]


def test_the_graph_of_a_hand_drawn_sketch() -> None:
    canvases = healer.Canvases(healer.PUBLISHED)
    nodes, adjacency = canvases.graph(TWO_STROKES)
    assert nodes.shape == (21, 128, 128)
    # 240 px wide: scaled by 512 / 240; patches at (0, 0), (160, 0) and (140, 20) of the drawing
    np.testing.assert_allclose(
        np.diff(canvases.points(TWO_STROKES)[[0, 4, 7]], axis=0), [[341, 0], [-43, 43]], atol=1
    )
    expected = np.zeros((21, 21), dtype=np.float32)
    expected[0, 0] = 0.5
    for i in (1, 2, 3):
        expected[i, i] = expected[i, 0] = 0.5
    expected[2, 3] = expected[3, 2] = 0.3  # 60 px apart; a fifth of 341 are 68
    np.testing.assert_array_equal(adjacency, expected)
    assert not nodes[4:].any()
    # the first patch has the line's beginning in its middle: ink at its right, none at its left
    assert (nodes[1][64, 70:] == 255).all()
    assert not nodes[1][:, :50].any()
    thickness = (nodes[1][:, 100] == 255).sum()
    assert 11 <= thickness <= 13
    # node 0 is the whole drawing, made smaller
    whole = 255 - render(to_sketch(TWO_STROKES), 128, 12 / 562, 25 / 562)
    assert np.abs(nodes[0].astype(int) - whole.astype(int)).mean() < 2


def test_a_masked_patch_blackens_the_canvas_for_later_patches_and_the_whole() -> None:
    canvases = healer.Canvases(healer.PUBLISHED)
    nodes, _ = canvases.graph(TWO_STROKES)
    masked, adjacency = canvases.graph(TWO_STROKES, np.arange(20) == 1)
    np.testing.assert_array_equal(masked[1], nodes[1])
    assert not masked[2].any()
    assert not adjacency[2].any()
    assert not adjacency[:, 2].any()
    assert adjacency[3, 3] == 0.5
    assert masked[3].sum() < nodes[3].sum()  # the patches overlap
    gone = nodes[0].astype(int) - masked[0].astype(int)
    assert (gone >= 0).all()
    # the square around point 4, (341 ± 64, 0 ± 64) of the drawing, 25 px in, made smaller
    x = np.flatnonzero((gone > 0).any(axis=0))
    assert x[0] == pytest.approx((25 + 341 - 64) * 128 / 562, abs=1.5)
    assert x[-1] == pytest.approx((25 + 341 + 64) * 128 / 562, abs=1.5)
    np.testing.assert_array_equal(canvases.graph(TWO_STROKES)[0], nodes)  # what is kept is whole


def test_the_graph_encoder_is_the_released_sum() -> None:
    sizes = healer.CPU
    encoder = healer.GraphEncoder(sizes).eval()
    drawings = [TWO_STROKES, BOX]
    nodes, adjacency = healer.Canvases(sizes).graphs(drawings)
    assert nodes.dtype == torch.uint8
    mean, log_variance = encoder(nodes, adjacency)
    features = encoder.features(nodes)
    summed = (adjacency @ features @ encoder.weight).sum(dim=1)
    expected = encoder.mean(torch.tanh(encoder.graph_norm(summed)))
    torch.testing.assert_close(mean, expected, atol=1e-4, rtol=1e-4)
    assert log_variance.shape == (2, sizes.latent)


# -- all three ---------------------------------------------------------------------------------
def views(name: str, tokens: torch.Tensor) -> tuple[torch.Tensor, ...]:
    drawings = [TWO_STROKES, BOX]
    if name == "sketchrnn":
        return tokens[:, 1:], torch.tensor([len(d) for d in drawings])
    if name == "pix2seq":
        return (pix2seq.pictures(drawings, 20.0),)
    return healer.Canvases(healer.CPU).graphs(drawings)


@pytest.mark.parametrize("name", ["sketchrnn", "pix2seq", "healer"])
def test_every_weight_that_is_learned_has_a_gradient(name: str) -> None:
    module = {"sketchrnn": sketchrnn, "pix2seq": pix2seq, "healer": healer}[name]
    model: StrokeModel = module.build(module.CPU, 3).train()
    tokens = to_tokens([TWO_STROKES, BOX], 16, 20.0)
    noise = torch.randn(2, module.CPU.latent)
    label = torch.tensor([0, 3])
    parts = model.parts(tokens, views(name, tokens), label, noise, end="row", floor=1e-6)
    (parts.stroke + parts.pen + parts.divergence).sum().backward()
    without = [
        n
        for n, p in model.named_parameters()
        if p.requires_grad and (p.grad is None or not torch.isfinite(p.grad).all())
    ]
    assert without == []
