"""The outlook of an unfinished drawing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from sketchknitter.errors import UserError
from sketchknitter.recognizers.outlook import (
    FRAME,
    INPUTS,
    LONGEST,
    WHERE,
    Outlook,
    OutlookShape,
    as_seen,
    frame_log_density,
)

SHAPE = OutlookShape(widths=(32, 48), heads=2, frames=3)


@pytest.fixture(scope="module")
def network() -> Outlook:
    torch.manual_seed(0)
    out = Outlook(("cat", "dog", "sun"), SHAPE)
    with torch.no_grad():
        for p in out.parameters():
            p.add_(0.05 * torch.randn_like(p))
    return out.eval()


def seen(n: int = 12, where: str = "end") -> np.ndarray:
    points = np.random.default_rng(n).normal(0, 40, (n, 2)) + 300
    ends = np.zeros(n, bool)
    ends[-1] = True
    return as_seen(points, ends, where)


def test_what_is_seen_depends_on_neither_place_nor_size() -> None:
    points = np.random.default_rng(1).normal(0, 40, (9, 2))
    ends = np.zeros(9, bool)
    np.testing.assert_allclose(
        as_seen(points, ends, "end"), as_seen(7 * points + 1000, ends, "end"), atol=1e-4
    )
    seen = [as_seen(points, ends, where) for where in WHERE] + [as_seen(points, ends, "end", True)]
    assert len({rows.tobytes() for rows in seen}) == len(WHERE) + 1
    assert all(np.array_equal(rows[:, :5], seen[0][:, :5]) for rows in seen)


def test_padding_changes_nothing(network: Outlook) -> None:
    rows = torch.from_numpy(seen())[None]
    alone = network.read(rows, torch.ones((1, 12), dtype=torch.bool))
    padded = torch.cat([rows, torch.full((1, 6, INPUTS), 9.0)], dim=1)
    mask = torch.arange(18)[None] < 12
    torch.testing.assert_close(network.read(padded, mask), alone, rtol=1e-4, atol=1e-5)


def test_probabilities_add_up(network: Outlook) -> None:
    assert network.class_probabilities(seen()).sum() == pytest.approx(1)
    missing, features = network.missing_probabilities(seen(), [0, 3])
    assert missing.shape == (2, LONGEST)
    np.testing.assert_allclose(missing.sum(axis=1), 1)
    assert not torch.equal(features[0], features[1])  # the label counts


def test_frame_density_is_a_density(network: Outlook) -> None:
    _, features = network.missing_probabilities(seen(), [0])
    weight, mean, spread = network.frames(features, torch.tensor([20]))
    normal = torch.distributions.MixtureSameFamily(
        torch.distributions.Categorical(logits=weight),
        torch.distributions.Independent(torch.distributions.Normal(mean, spread), 1),
    )
    frame = torch.tensor([[0.1, 0.0, -0.2]])
    torch.testing.assert_close(
        frame_log_density((weight, mean, spread), frame), normal.log_prob(frame)
    )
    drawn = np.array(
        [network.draw_frame(features[0], 20, np.random.default_rng(i)) for i in range(400)]
    )
    assert drawn.shape == (400, FRAME)
    np.testing.assert_allclose(drawn.mean(axis=0), normal.mean[0].detach(), atol=0.2)


def test_a_cool_frame_is_the_middle_of_the_likeliest_component(network: Outlook) -> None:
    _, features = network.missing_probabilities(seen(), [0])
    weight, mean, _ = network.frames(features, torch.tensor([20]))
    for seed in range(5):
        frame = network.draw_frame(features[0], 20, np.random.default_rng(seed), 1e-3)
        np.testing.assert_allclose(frame, mean[0, weight[0].argmax()].detach(), atol=0.02)


def test_a_file_rebuilds_it(network: Outlook, tmp_path: Path) -> None:
    path = tmp_path / "outlook.safetensors"
    network.save(path, {"seed": 1})
    back = Outlook.load(path)
    assert back.classes == network.classes
    assert back.record == {"seed": 1}
    np.testing.assert_allclose(
        back.class_probabilities(seen()), network.class_probabilities(seen()), atol=2e-3
    )
    with pytest.raises(UserError, match="outlook"):
        Outlook.load(tmp_path / "none.safetensors")
