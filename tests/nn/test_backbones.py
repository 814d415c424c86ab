"""Every backbone through one table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from sketchknitter.errors import UserError
from sketchknitter.nn.official import OfficialUNet
from sketchknitter.nn.transformer import Transformer
from sketchknitter.nn.unet1d import UNet1d
from sketchknitter.settings import BackboneConfig
from sketchknitter.systems.sketchknitter.config import build_backbone

INPUTS, OUTPUTS, CLASSES = 7, 5, 3


@dataclass(frozen=True)
class Row:
    """One backbone: how to build it, and what it promises."""

    build: Callable[[], nn.Module]
    longest: int = 10_000
    masks: bool = True


def _unet(**options: object) -> UNet1d:
    given = {"widths": (16, 24, 32), "blocks": 1, "attention": (1, 2), "heads": 2} | options
    return UNet1d(INPUTS, OUTPUTS, CLASSES, **given)  # type: ignore[arg-type]


TABLE = {
    "unet1d": Row(_unet),
    "unet1d-additive": Row(lambda: _unet(film=False)),
    "unet1d-no-attention": Row(lambda: _unet(attention=(), widths=(16, 24))),
    "transformer": Row(lambda: Transformer(INPUTS, OUTPUTS, CLASSES, width=16, depth=2, heads=2)),
    "official": Row(
        lambda: OfficialUNet(INPUTS, OUTPUTS, CLASSES, points=32, blocks=1, heads=2),
        longest=32,
        masks=False,
    ),
    "official-additive": Row(
        lambda: OfficialUNet(2, OUTPUTS, CLASSES, points=32, blocks=1, film=False),
        longest=32,
        masks=False,
    ),
}
each = pytest.mark.parametrize("name", TABLE)
masking = pytest.mark.parametrize("name", [n for n, row in TABLE.items() if row.masks])


def perturbed(name: str) -> nn.Module:
    """A backbone away from its zero-initialized layers, in evaluation mode."""
    net = TABLE[name].build().eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=generator))
    return net


def task(name: str, lengths: list[int]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x (B, N, D_in) without padding content, t, label, mask."""
    inputs = 2 if name == "official-additive" else INPUTS
    b, n = len(lengths), max(lengths)
    mask = torch.arange(n)[None] < torch.tensor(lengths)[:, None]
    x = torch.randn(b, n, inputs) * mask[..., None]
    t = torch.linspace(3, 990, b).long()
    return x, t, torch.arange(b) % (CLASSES + 1), mask


@each
@pytest.mark.parametrize("n", [1, 2, 3, 7, 19, 32, 131])
def test_any_number_of_points(name: str, n: int) -> None:
    net, given = perturbed(name), task(name, [n, max(1, n // 2)])
    if n > TABLE[name].longest:
        with pytest.raises(UserError, match="up to 32 points, not 131"):
            net(*given)
        return
    out = net(*given)
    assert out.shape == (2, n, OUTPUTS)
    assert out.isfinite().all()


@each
def test_starts_by_predicting_no_noise(name: str) -> None:
    out = TABLE[name].build().eval()(*task(name, [9, 5]))
    noises = 2 if name == "official-additive" else OUTPUTS
    assert (out[..., :noises] == 0).all()


@each
def test_level_and_label_matter(name: str) -> None:
    net = perturbed(name)
    x, t, label, mask = task(name, [12, 12])
    out = net(x, t, label, mask)
    assert (net(x, t.flip(0), label, mask) - out).abs().amax(dim=(1, 2)).min() > 1e-3
    assert (net(x, t, label + 1, mask) - out).abs().amax(dim=(1, 2)).min() > 1e-3


@each
def test_every_parameter_gets_a_gradient(name: str) -> None:
    net = perturbed(name).train()
    x, t, label, mask = task(name, [17, 9, 12, 30])
    (net(x, t, label, mask) * mask[..., None]).square().sum().backward()
    idle = [k for k, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    assert idle == []


@each
def test_save_and_load(name: str) -> None:
    net, other, given = perturbed(name), TABLE[name].build().eval(), task(name, [11, 4])
    assert not torch.equal(other(*given), net(*given))
    other.load_state_dict(load(save(net.state_dict())), strict=True)
    assert torch.equal(other(*given), net(*given))


@each
def test_sketches_of_a_batch_do_not_meet(name: str) -> None:
    net = perturbed(name)
    x, t, label, mask = task(name, [12, 12, 12])
    out = net(x, t, label, mask)
    for i in range(3):
        alone = net(x[i : i + 1], t[i : i + 1], label[i : i + 1], mask[i : i + 1])
        torch.testing.assert_close(alone[0], out[i], rtol=1e-4, atol=1e-4)


@masking
@pytest.mark.parametrize("more", [1, 2, 5])
def test_padding_never_changes_what_is_valid(name: str, more: int) -> None:
    net = perturbed(name)
    x, t, label, mask = task(name, [12, 7, 1])
    out = net(x, t, label, mask)
    noisy = torch.where(mask[..., None], x, 50 * torch.randn_like(x))
    assert torch.equal(net(noisy, t, label, mask)[mask], out[mask])
    wide = torch.cat([noisy, 50 * torch.randn(3, more, x.shape[-1])], dim=1)
    wide_mask = torch.cat([mask, torch.zeros(3, more, dtype=torch.bool)], dim=1)
    torch.testing.assert_close(
        net(wide, t, label, wide_mask)[:, :12][mask], out[mask], rtol=1e-4, atol=1e-4
    )


@masking
def test_the_mask_is_seen(name: str) -> None:
    net = perturbed(name)
    x, t, label, mask = task(name, [12, 12])
    shorter = mask.clone()
    shorter[:, 8:] = False
    assert (net(x, t, label, shorter) - net(x, t, label, mask))[:, :8].abs().max() > 1e-3


@each
def test_bfloat16_is_close_to_float32(name: str) -> None:
    net, given = perturbed(name), task(name, [16, 13])
    exact = net(*given)
    with torch.autocast("cpu", torch.bfloat16):
        rough = net(*given).float()
    assert (rough - exact).abs().max() < 0.05 * exact.abs().max()
    assert (rough - exact).abs().max() > 0  # autocast did reach the products


def count(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize(("blocks", "released"), [(2, 20334276), (3, 26527236), (4, 32720196)])
def test_official_has_the_released_number_of_parameters(blocks: int, released: int) -> None:
    with torch.device("meta"):
        assert count(OfficialUNet(2, 4, 0, points=96, blocks=blocks)) == released


def test_official_counts_beyond_the_released_network() -> None:
    with torch.device("meta"):
        assert count(OfficialUNet(2, 5, 0)) == 20334276 + 129  # the pen's third state
        assert count(OfficialUNet(2, 5, 31)) == 20334276 + 129 + 32 * 384
        assert count(OfficialUNet(5, 5, 0)) == 20334276 + 3 * 128 + 129
        assert count(OfficialUNet(2, 4, 0, film=False)) == pytest.approx(18.2e6, rel=2e-3)


def test_official_multiply_adds() -> None:
    net = OfficialUNet(2, 4, 0).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        net(torch.randn(1, 96, 2), torch.tensor([5]), torch.tensor([0]), torch.ones(1, 96) > 0)
    assert counter.get_total_flops() / 2 == pytest.approx(475e6, rel=0.02)


def test_official_pads_short_drawings_with_zeros() -> None:
    net = perturbed("official")
    x, t, label, mask = task("official", [20, 13])
    full = net(torch.cat([x, torch.zeros(2, 12, INPUTS)], dim=1), t, label, torch.ones(2, 32) > 0)
    assert torch.equal(net(x, t, label, mask), full[:, :20])


def test_config_builds_each_backbone() -> None:
    for name, kind in (
        ("unet1d", UNet1d),
        ("transformer", Transformer),
        ("official", OfficialUNet),
    ):
        config = BackboneConfig(backbone=name, widths=(16, 16), attention_levels=(1,))  # type: ignore[arg-type]
        net = build_backbone(config, 7, 5, 2, max_points=31)
        assert type(net) is kind
        assert net(*task("unet1d", [31])).shape == (1, 31, 5)
    with pytest.raises(UserError, match="no backbone 'gru'"):
        build_backbone(BackboneConfig(backbone="gru"), 7, 5, 2, 31)  # type: ignore[arg-type]
