"""The refiner: what a move depends on, when a student's drawing is refined, and what stays."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from pupils import Rows, batch, with_student
from torch.nn import functional as F

from sketchknitter.data.batch import DRAW, LIFT, PEN_STATES
from sketchknitter.diffusion.denoiser import Denoised
from sketchknitter.diffusion.schedule import Schedule
from sketchknitter.editing.model import SketchKnitter
from sketchknitter.errors import UserError
from sketchknitter.representation import Representation
from sketchknitter.sketch import Sketch
from sketchknitter.systems.sketchknitter.checkpoint import Checkpoint
from sketchknitter.systems.sketchknitter.refiner import (
    PREFIX,
    Refined,
    Refiner,
    lines_of,
    refiner_of,
    without_refiner,
)
from sketchknitter.systems.sketchknitter.student import student_of

LAYERS = 3


def moving(seed: int = 0) -> Refiner:
    """A refiner that moves points, if to no purpose."""
    torch.manual_seed(seed)
    out = Refiner(16, LAYERS)
    torch.nn.init.normal_(out.last.weight)
    torch.nn.init.normal_(out.last.bias)
    return out.eval().requires_grad_(False)


def refined(base: Checkpoint, refiner: Refiner | None = None) -> Checkpoint:
    """The model with a refiner."""
    weights = (refiner or moving()).state_dict().items()
    extras = base.extras | {PREFIX + k: v for k, v in weights}
    return dataclasses.replace(base, extras=extras)


# -- the network -----------------------------------------------------------------------------------
def test_a_move_depends_on_a_few_points_around_wherever_they_lie() -> None:
    network = moving()
    points = torch.from_numpy(np.random.default_rng(0).normal(0, 40, (2, 40, 2))).float()
    drawn, mask = torch.ones(2, 39) > 0, torch.ones(2, 40) > 0
    moves = network(points, drawn, mask) - points
    assert moves.std() > 0.1
    other = points.clone()
    other[:, 20] += 7
    apart = (network(other, drawn, mask) - other - moves).abs().amax(dim=(0, 2))
    changed = apart.gt(1e-4).nonzero()[:, 0]
    assert (changed.min(), changed.max()) == (20 - LAYERS - 1, 20 + LAYERS + 1)
    lifted = drawn.clone()
    lifted[:, 20] = False
    apart = (network(points, lifted, mask) - points - moves).abs().amax(dim=(0, 2))
    assert apart[20] > 1e-3
    shifted = points + torch.tensor([30.0, -50])
    torch.testing.assert_close(network(shifted, drawn, mask) - shifted, moves, atol=1e-3, rtol=1e-3)


def test_a_new_one_moves_nothing_and_padding_changes_nothing() -> None:
    points = torch.from_numpy(np.random.default_rng(0).normal(0, 40, (2, 12, 2))).float()
    drawn, mask = torch.ones(2, 11) > 0, torch.ones(2, 12) > 0
    assert torch.equal(Refiner()(points, drawn, mask), points)
    network = moving()
    alone = network(points, drawn, mask)
    wide = F.pad(points, (0, 0, 0, 5), value=9.0), F.pad(drawn, (0, 5)), F.pad(mask, (0, 5))
    padded = network(*wide)
    torch.testing.assert_close(padded[:, :12], alone)
    assert torch.equal(padded[:, 12:], wide[0][:, 12:])


# -- where it is used ------------------------------------------------------------------------------
class Says:
    """A model whose estimate is always the same."""

    schedule = Schedule()

    def __init__(self, x0: torch.Tensor) -> None:
        self.x0 = x0

    def __call__(
        self, x_t: torch.Tensor, t: torch.Tensor, label: torch.Tensor, mask: torch.Tensor
    ) -> Denoised:
        return Denoised(self.x0, x_t - self.x0)


@pytest.mark.parametrize("leak", [0.0, 0.5, 1.0])
def test_the_last_estimate_alone_is_refined_and_held_points_stay(leak: float) -> None:
    representation, network = Representation(leak, 30.0), moving()
    points = np.random.default_rng(0).normal(0, 40, (2, 12, 2))
    xy = torch.from_numpy(representation.filter(points)).float()
    n = xy.shape[1]
    pens = -torch.ones(2, n, PEN_STATES)
    pens[..., DRAW] = 1
    pens[:, 4, DRAW], pens[:, 4, LIFT] = -1, 1
    x0, mask = torch.cat([xy, pens], dim=-1), torch.ones(2, n) > 0
    held = torch.zeros(2, n) > 0
    held[0, 3:6] = True
    model = Refined(Says(x0), network, representation, 249, held)
    x_t, label = torch.randn(2, n, 5), torch.zeros(2, dtype=torch.int64)
    earlier = model(x_t, torch.full((2,), 499), label, mask)
    assert torch.equal(earlier.x0, x0)
    last = model(x_t, torch.full((2,), 249), label, mask)
    assert torch.equal(last.x0[..., 2:], pens)
    there, drawn, valid = lines_of(x0, mask, representation)
    # the pen is lifted after the row of number 4
    lifts = (~drawn).nonzero()[:, 1].tolist()
    assert lifts == [4 + representation.implied] * 2
    wanted = network(there, drawn, valid)
    first = representation.implied  # an origin that no row stands for is held as well
    wanted[0, 3 + first : 6 + first] = there[0, 3 + first : 6 + first]
    wanted[:, :first] = there[:, :first]
    found = representation.positions(last.x0)
    torch.testing.assert_close(found - found[:, :1], wanted - wanted[:, :1], atol=1e-3, rtol=1e-4)
    alpha, sigma = (c[:, None, None].float() for c in Says.schedule(torch.full((2,), 249)))
    torch.testing.assert_close(alpha * last.x0 + sigma * last.eps, x_t, atol=1e-4, rtol=1e-4)


def test_a_student_draws_with_its_refiner() -> None:
    base = with_student("matching")
    plain, fine = (SketchKnitter(c).sample("cat", n=3, tries=1) for c in (base, refined(base)))
    for one, other in zip(plain, fine, strict=True):
        assert [len(s) for s in one.strokes] == [len(s) for s in other.strokes]
        assert not np.allclose(one.points, other.points, atol=0.1)
    # the many-step network draws as it did
    plain, fine = (SketchKnitter(c).sample("cat", steps=5) for c in (base, refined(base)))
    assert plain == fine


def test_what_a_person_drew_is_not_refined(random_rows: Rows) -> None:
    """Known points of a batch stay where they are; others move."""
    examples, base = batch(random_rows), refined(with_student("matching"))
    student = student_of(base)
    assert student is not None
    own, codec = examples.batch, base.config.codec
    t, x = torch.full((8,), 249), torch.zeros(8, own.xy.shape[1], 5)
    refine, plain = (
        s.model(3.0, 2, examples)(x, t, own.label, own.mask).x0
        for s in (student, dataclasses.replace(student, refiner=None))
    )
    moved = (codec.map.positions(refine) - codec.map.positions(plain)).norm(dim=-1)
    known = examples.known & own.mask
    assert known.any()
    assert moved[known].max() < 1e-3
    assert moved[own.mask & ~known].median() > 0.1


def test_an_ending_keeps_the_strokes_there_are() -> None:
    model = SketchKnitter(refined(with_student("matching")))
    start = Sketch([[[0, 0], [40, 5], [80, 0], [90, 40]], [[10, 60], [50, 80], [90, 60.0]]], "cat")
    ending = model.complete(start, 1)[0]
    for mine, kept in zip(start.strokes, ending.strokes[:2], strict=True):
        np.testing.assert_allclose(kept[: len(mine)], mine, atol=1e-6)


def test_a_student_moves_with_all_it_has() -> None:
    student = student_of(refined(with_student("matching")))
    assert student is not None
    moved = student.on(torch.device("meta"))
    assert moved.refiner is not None
    assert all(p.is_meta for n in (moved.denoiser, moved.refiner) for p in n.parameters())


# -- in a file -------------------------------------------------------------------------------------
def test_it_is_found_again_and_can_be_left_out() -> None:
    network, base = moving(), with_student("matching")
    found = refiner_of(refined(base, network))
    assert found is not None
    weights = network.state_dict()
    assert all(torch.equal(v, weights[k]) for k, v in found.state_dict().items())
    assert len(found.further) == LAYERS - 1
    assert refiner_of(base) is None
    assert without_refiner(refined(base)) == base.extras


@pytest.mark.parametrize("fault", ["missing", "surplus", "shape", "empty"])
def test_weights_that_do_not_fit_together(fault: str) -> None:
    base = refined(with_student("matching"))
    name = PREFIX + "first.linear.weight"
    if fault == "missing":
        del base.extras[name]
    elif fault == "surplus":
        base.extras[PREFIX + "nonsense"] = torch.zeros(3)
    elif fault == "shape":
        base.extras[name] = base.extras[name][:, :5]
    else:
        base.extras[PREFIX + "last.weight"] = torch.zeros(2, 0)
    with pytest.raises(UserError, match="refiner"):
        student_of(base)
