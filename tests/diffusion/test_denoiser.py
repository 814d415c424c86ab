"""What the denoiser promises: exact parametrizations, a masked loss, pens that read back."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sketchknitter.data.batch import PEN_STATES, Batch
from sketchknitter.data.codec import Codec
from sketchknitter.diffusion.denoiser import (
    BitPens,
    Denoiser,
    HeadPens,
    Parametrization,
    expand,
    read_pens,
)
from sketchknitter.diffusion.schedule import Schedule
from sketchknitter.nn.unet1d import UNet1d
from sketchknitter.representation import Representation

CLASSES = 4
NAMES = ["eps", "v", "x0"]


def make(
    pens: str = "bits", name: str = "v", leak: float | None = 0.8, *, given: bool = True
) -> Denoiser:
    """A small denoiser away from its zero-initialized layers."""
    torch.manual_seed(1)
    kind = BitPens() if pens == "bits" else HeadPens(0.1)
    width = 2 + kind.channels
    inputs = width + (0 if leak is None else 2)
    net = UNet1d(
        inputs, width + kind.logits, CLASSES, widths=(16, 24), blocks=1, attention=(1,), heads=2
    )
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.1 * torch.randn_like(p))
    parametrization = Parametrization(name)  # type: ignore[arg-type]
    schedule = Schedule("cosine", 100)
    shown = None if leak is None else Representation(leak)
    return Denoiser(net, schedule, parametrization, kind, length_given=given, representation=shown)


def batch_of(random_rows, count: int = 6) -> Batch:
    codec = Codec(scale=20.0, max_rows=20)
    return codec.encode(
        random_rows(count, 3, 15, seed=3), [i % (CLASSES + 1) for i in range(count)]
    )


def noise_for(model: Denoiser, batch: Batch) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    width = model.state(batch.xy, batch.pen).shape[-1]
    eps = torch.randn(*batch.mask.shape, width, generator=generator) * batch.mask[..., None]
    return torch.arange(len(batch)) * 15 + 3, eps


# -- parametrizations ------------------------------------------------------------------------------
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_target_and_split_are_inverses(name: str, schedule: str) -> None:
    p = Parametrization(name)  # type: ignore[arg-type]
    t = torch.tensor([0, 1, 250, 700, 990])
    x0, eps = torch.randn(2, 5, 9, 2, dtype=torch.float64)
    alpha, sigma = (expand(c, x0) for c in Schedule(schedule, 1000)(t))  # type: ignore[arg-type]
    x_t = alpha * x0 + sigma * eps
    got = p.split(p.target(x0, eps, alpha, sigma), x_t, alpha, sigma)
    torch.testing.assert_close(got, (x0, eps), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_whatever_the_network_says_adds_up_to_x_t(name: str) -> None:
    model = make(name=name)
    x_t = torch.randn(4, 9, 5)
    t = torch.tensor([0, 30, 60, 95])
    out = model(x_t, t, torch.arange(4), torch.ones(4, 9) > 0)
    alpha, sigma = (expand(c, x_t) for c in model.schedule(t))
    torch.testing.assert_close(alpha * out.x0 + sigma * out.eps, x_t, rtol=1e-4, atol=1e-4)


# -- the masked loss -------------------------------------------------------------------------------
@pytest.mark.parametrize("pens", ["bits", "head"])
@pytest.mark.parametrize("leak", [None, 0.8, 1.0])
def test_loss_ignores_padding(random_rows, pens: str, leak: float | None) -> None:
    model, batch = make(pens, leak=leak), batch_of(random_rows)
    t, eps = noise_for(model, batch)
    loss = model.loss(batch.xy, batch.pen, batch.mask, batch.label, t, eps)
    assert not batch.mask.all()
    pad = ~batch.mask
    xy = torch.where(pad[..., None], 30 * torch.randn_like(batch.xy), batch.xy)
    pen = torch.where(pad, torch.randint(0, PEN_STATES, pad.shape), batch.pen)
    noise = torch.where(pad[..., None], torch.randn_like(eps), eps)
    other = model.loss(xy, pen, batch.mask, batch.label, t, noise)
    torch.testing.assert_close(other.total, loss.total, rtol=1e-5, atol=1e-5)
    assert torch.equal(loss.count, batch.length)
    # the same content in a valid place does change it
    xy = batch.xy.clone()
    xy[:, 1] += 1
    changed = model.loss(xy, batch.pen, batch.mask, batch.label, t, eps)
    assert ((changed.total - loss.total).abs() > 1e-3).all()


@pytest.mark.parametrize("pens", ["bits", "head"])
def test_learned_lengths_count_the_pens_after_the_end(random_rows, pens: str) -> None:
    model, batch = make(pens, given=False), batch_of(random_rows)
    t, eps = noise_for(model, batch)
    loss = model.loss(batch.xy, batch.pen, batch.mask, batch.label, t, eps)
    wrong = torch.where(batch.mask, batch.pen, torch.zeros_like(batch.pen))
    other = model.loss(batch.xy, wrong, batch.mask, batch.label, t, eps)
    short = batch.length < batch.xy.shape[1]
    assert ((other.total - loss.total).abs() > 1e-6)[short].all()
    assert torch.equal(other.total[~short], loss.total[~short])


def test_loss_of_the_true_noise_is_zero(random_rows) -> None:
    batch = batch_of(random_rows)

    class Oracle(torch.nn.Module):
        def forward(self, x: Tensor, t: Tensor, label: Tensor, mask: Tensor) -> Tensor:
            return self.answer

    model = Denoiser(Oracle(), Schedule("linear", 100), Parametrization("eps"), BitPens())
    t, eps = noise_for(model, batch)
    model.backbone.answer = eps  # type: ignore[assignment]
    given = (batch.xy, batch.pen, batch.mask, batch.label, t, eps)
    assert (model.loss(*given).total == 0).all()
    model.backbone.answer = eps + 0.5  # type: ignore[assignment]
    torch.testing.assert_close(model.loss(*given).per_sketch, torch.full((6,), 0.25))


@pytest.mark.parametrize("pens", ["bits", "head"])
@pytest.mark.parametrize("size", [1, 4])
def test_microbatches_add_up(random_rows, pens: str, size: int) -> None:
    model, batch = make(pens), batch_of(random_rows)
    t, eps = noise_for(model, batch)

    def gradients(pieces: list[slice]) -> tuple[Tensor, list[Tensor]]:
        model.zero_grad()
        totals = []
        for s in pieces:
            b = batch[s]
            loss = model.loss(b.xy, b.pen, b.mask, b.label, t[s], eps[s])
            (loss.total.sum() / batch.mask.sum()).backward()
            totals.append(loss.total.detach())
        return torch.cat(totals), [p.grad.clone() for p in model.parameters()]  # type: ignore[union-attr]

    whole, grads = gradients([slice(0, 6)])
    parts, sums = gradients([slice(a, a + size) for a in range(0, 6, size)])
    torch.testing.assert_close(parts, whole, rtol=1e-4, atol=1e-5)
    for a, b in zip(sums, grads, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("pens", ["bits", "head"])
@pytest.mark.parametrize("name", NAMES)
def test_one_step_moves_every_intended_weight(random_rows, pens: str, name: str) -> None:
    model, batch = make(pens, name), batch_of(random_rows, 3)  # labels 0, 1, 2 of 4 and "none"
    t, eps = noise_for(model, batch)
    before = {k: p.detach().clone() for k, p in model.named_parameters()}
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0)
    model.loss(batch.xy, batch.pen, batch.mask, batch.label, t, eps).total.sum().backward()
    optimizer.step()
    moved = {k: p.detach() != before[k] for k, p in model.named_parameters()}
    table = moved.pop("backbone.embedding.label.weight")
    assert table[:3].float().mean() > 0.9
    assert not table[3:].any()  # labels that were not there
    assert [k for k, m in moved.items() if m.float().mean() < 0.9] == []


# -- pens ------------------------------------------------------------------------------------------
def test_bits_round_trip() -> None:
    pen = torch.randint(0, PEN_STATES, (5, 11))
    bits = BitPens().encode(pen)
    assert set(bits.unique().tolist()) == {-1.0, 1.0}
    log_p = read_pens(torch.cat([torch.randn(5, 11, 2), bits], dim=-1), None)
    assert torch.equal(log_p.argmax(dim=-1), pen)
    assert log_p.exp().amax(dim=-1).min() > 0.999
    torch.testing.assert_close(log_p.exp().sum(dim=-1), torch.ones(5, 11))


def test_head_reads_logits() -> None:
    logits = torch.randn(4, 7, PEN_STATES)
    log_p = read_pens(torch.randn(4, 7, 2), logits)
    torch.testing.assert_close(log_p, logits.log_softmax(dim=-1))
    model = make("head")
    out = model(
        torch.randn(2, 7, 2), torch.tensor([3, 50]), torch.tensor([0, 1]), torch.ones(2, 7) > 0
    )
    assert out.x0.shape == (2, 7, 2)
    assert out.pen.shape == (2, 7, PEN_STATES)


def test_head_loss_counts_by_alpha_bar() -> None:
    logits, pen = torch.randn(1, 7, PEN_STATES), torch.randint(0, PEN_STATES, (1, 7))
    pens = HeadPens(0.3)
    full = pens.loss(logits, pen, torch.ones(1, 1, 1))
    chosen = logits.log_softmax(dim=-1).gather(-1, pen[..., None])[..., 0]
    torch.testing.assert_close(full, -0.3 * chosen)
    torch.testing.assert_close(pens.loss(logits, pen, torch.full((1, 1, 1), 0.5)), full / 4)


# -- positions -------------------------------------------------------------------------------------
@pytest.mark.parametrize("leak", [0.5, 0.8, 0.95])
def test_positions_are_the_points(random_rows, leak: float) -> None:
    codec = Codec("leaky", leak, max_rows=40, scale=17.0)
    rows = random_rows(1, 30, 30)[0]
    batch = codec.encode([rows], [0])
    points = torch.from_numpy(codec.points(batch.xy[0].numpy()) / codec.scale).float()
    unit = (1 - leak**2) ** 0.5
    found = Representation(leak).unit_positions(batch.xy)[0]
    torch.testing.assert_close(found, unit * points, rtol=1e-4, atol=1e-4)


def test_positions_of_offsets_are_sums_at_unit_variance() -> None:
    x = torch.randn(4000, 16, 3)
    out = Representation(1.0).unit_positions(x)
    torch.testing.assert_close(out[:, 3], x[:, :4, :2].sum(dim=1) / 2)
    assert (out.std(dim=0) - 1).abs().max() < 0.06
