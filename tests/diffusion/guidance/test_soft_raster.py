import numpy as np
import torch

from sketchknitter.diffusion.guidance.soft_raster import blurred, segment_distances, soft_raster
from sketchknitter.raster import fit, render
from sketchknitter.sketch import Sketch


def wave(rng: np.random.Generator) -> Sketch:
    """A drawing of a few smooth strokes."""
    strokes = []
    for _ in range(4):
        u = np.linspace(0, 1, 12)[:, None]
        a, b, c = rng.uniform(0, 255, (3, 2))
        strokes.append((1 - u) ** 2 * a + 2 * u * (1 - u) * b + u**2 * c)
    return Sketch(strokes)


def as_tensors(sketch: Sketch, margin: float) -> tuple[torch.Tensor, torch.Tensor]:
    scale, shift = fit(sketch.points, 1.0, margin)
    ink = np.ones(sketch.num_points)
    ink[np.cumsum([len(s) for s in sketch.strokes]) - 1] = 0
    points = torch.tensor(sketch.points * scale + shift)
    return points[None], torch.tensor(ink[:-1])[None]


def test_agrees_with_the_one_renderer():
    rng = np.random.default_rng(0)
    for _ in range(5):
        sketch = wave(rng)
        points, ink = as_tensors(sketch, 0.06)
        soft = soft_raster(points, ink, 64, width=0.04, softness=0.002)[0].numpy()
        hard = 1 - render(sketch, 64, width=0.04, margin=0.06) / 255
        assert np.abs(soft - hard).mean() < 0.017
        assert np.corrcoef(soft.ravel(), hard.ravel())[0, 1] > 0.98


def test_gradient_equals_finite_differences():
    torch.manual_seed(0)
    points = torch.rand(2, 6, 2, dtype=torch.float64, requires_grad=True)
    ink = torch.rand(2, 5, dtype=torch.float64) * 0.8 + 0.1
    ink.requires_grad_(True)
    target = torch.rand(2, 12, 12, dtype=torch.float64)

    def loss(p: torch.Tensor, m: torch.Tensor) -> torch.Tensor:
        return ((soft_raster(p, m, 12, width=0.1, softness=0.03) - target) ** 2).sum()

    by_points, by_ink = torch.autograd.grad(loss(points, ink), (points, ink))
    assert by_points.abs().max() > 1e-2  # something to compare
    for value, gradient in ((points, by_points), (ink, by_ink)):
        for i in range(0, value.numel(), 3):
            step = torch.zeros(value.numel(), dtype=torch.float64)
            step[i] = 1e-6
            step = step.view_as(value)
            ends = [
                loss(points + step * k, ink) if value is points else loss(points, ink + step * k)
                for k in (1, -1)
            ]
            slope = float(ends[0] - ends[1]) / 2e-6
            assert abs(slope - float(gradient.flatten()[i])) < 1e-5 * max(1.0, abs(slope))


def test_lifted_and_padded_segments_leave_no_ink():
    points = torch.rand(1, 5, 2)
    assert soft_raster(points, torch.zeros(1, 4)).abs().max() < 1e-6
    one = soft_raster(points[:, :2], torch.ones(1, 1))
    padded = torch.cat([points[:, :2], torch.full((1, 3, 2), 7.0)], dim=1)
    assert torch.equal(one, soft_raster(padded, torch.tensor([[1.0, 0, 0, 0]])))


def test_distance_to_a_segment_by_hand():
    points = torch.tensor([[[0.0, 0.0], [1.0, 0.0]]])
    places = torch.tensor([[0.5, 0.3], [2.0, 0.0], [-3.0, 4.0]])
    distances = segment_distances(points, places)[0, 0]
    assert torch.allclose(distances, torch.tensor([0.3, 1.0, 5.0]), atol=1e-5)


def test_zero_length_segments_have_finite_gradients():
    points = torch.full((1, 4, 2), 0.5, requires_grad=True)
    picture = soft_raster(points, torch.ones(1, 3), 16)
    picture.sum().backward()
    assert points.grad is not None
    assert torch.isfinite(points.grad).all()


def test_blur_keeps_ink_and_spreads_it():
    picture = torch.zeros(1, 21, 21)
    picture[0, 10, 10] = 1
    soft = blurred(picture, 2)
    assert abs(float(soft.sum()) - 1) < 1e-5
    assert float(soft.max()) < 0.1
    assert blurred(picture, 0) is picture
