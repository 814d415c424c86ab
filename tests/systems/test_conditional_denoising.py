"""The denoiser that sees conditions: its loss, its sampling, and how an older one learns to see."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch

from sketchknitter.data.codec import Codec
from sketchknitter.data.conditions import Mixture, collate, plain_example
from sketchknitter.diffusion import sampler as sampling
from sketchknitter.diffusion.guidance.classifier_free import Guided
from sketchknitter.diffusion.guidance.conditioned import Conditioned
from sketchknitter.diffusion.importance import level_sampler
from sketchknitter.diffusion.noise import SketchNoise
from sketchknitter.diffusion.timesteps import grid
from sketchknitter.settings import BackboneConfig, DiffusionConfig
from sketchknitter.systems.sketchknitter.checkpoint import Checkpoint
from sketchknitter.systems.sketchknitter.config import ModelConfig, build_denoiser
from sketchknitter.systems.sketchknitter.objective import ConditionalDenoising
from sketchknitter.systems.sketchknitter.run import adapted
from sketchknitter.training.objective import Streams

CODEC = Codec("leaky", 0.5, scale=40.0)
CONFIG = ModelConfig(
    BackboneConfig(widths=(16, 24), num_res_blocks=1, attention_levels=(1,), num_heads=2),
    DiffusionConfig(diffusion_steps=50, conditions=True),
    CODEC,
    ("cat", "dog"),
)


def rows(seed: int, n: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    out = np.column_stack([rng.normal(0, 25, (n, 2)), rng.random(n) < 0.2])
    out[-1, 2] = 1
    return out


def noisy(config: ModelConfig) -> torch.nn.Module:
    torch.manual_seed(0)
    network = build_denoiser(config)
    for p in network.parameters():  # last layers start at zero: give them something to say
        torch.nn.init.normal_(p, std=0.1)
    return network.eval()


def batch(count: int = 6):  # type: ignore[no-untyped-def]
    mixture = Mixture(prefix=0.3, strokes=0.2, deformed=0.3)
    examples = [mixture(rows(i, 10 + 8 * i), CODEC, np.random.default_rng(i)) for i in range(count)]
    return collate(examples, [i % 2 for i in range(count)], CODEC)


def test_only_what_is_free_counts() -> None:
    network, data = noisy(CONFIG), batch()
    own = data.batch
    t = torch.tensor([5, 10, 20, 30, 40, 49])
    eps = torch.randn((*own.xy.shape[:2], 5), generator=torch.Generator().manual_seed(1))

    def loss(noise: torch.Tensor):  # type: ignore[no-untyped-def]
        return network.loss(
            own.xy, own.pen, own.mask, own.label, t, noise, data.condition, data.free
        )

    out = loss(eps)
    free = data.free & own.mask[..., None]
    torch.testing.assert_close(out.count, free.float().mean(-1).sum(-1))
    # noise on what is known is never seen
    torch.testing.assert_close(loss(torch.where(free, eps, 9.0)).total, out.total)
    assert not torch.allclose(loss(eps.flip(0)).total, out.total)


def test_grouping_by_length_changes_nothing() -> None:
    data = batch(40)
    objective = ConditionalDenoising(noisy(CONFIG), 2, level_sampler("uniform", 50), 0.1)  # type: ignore[arg-type]
    streams = Streams(3, 7, np.arange(40), 40)
    whole = objective.loss(data, streams)
    parts = [
        objective.loss(data[torch.arange(a, b)], Streams(3, 7, np.arange(a, b), 40))
        for a, b in ((0, 5), (5, 40))
    ]
    total = torch.cat([p.total for p in parts])
    torch.testing.assert_close(whole.total, total, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(whole.count, torch.cat([p.count for p in parts]))


def test_sampling_keeps_what_is_known() -> None:
    network, data = noisy(CONFIG), batch()
    own = data.batch
    task = sampling.Task(
        own.label, own.mask, SketchNoise([np.random.default_rng(i) for i in range(6)])
    )
    seeing = Conditioned(network, data)  # type: ignore[arg-type]
    guided = Guided(seeing, 2.0, 2)
    steps = grid("uniform", 4, network.schedule)  # type: ignore[union-attr,arg-type]
    drawn = sampling.draw(guided, sampling.method("ancestral"), steps, task, task.normal(5))
    clean = network.state(own.xy, own.pen)  # type: ignore[union-attr,operator]
    known = ~data.free & own.mask[..., None]
    assert known.any()
    torch.testing.assert_close(drawn.x0[known], clean[known])
    assert (drawn.x0 - clean)[data.free & own.mask[..., None]].abs().max() > 0.1


def test_an_older_network_learns_to_see_without_forgetting() -> None:
    blind = dataclasses.replace(
        CONFIG, diffusion=dataclasses.replace(CONFIG.diffusion, conditions=False)
    )
    old = noisy(blind)
    lengths = torch.zeros((3, CODEC.max_points + 1), dtype=torch.int32)
    config, weights = adapted(
        Checkpoint(blind, old.state_dict(), lengths), ("dog", "cow", "cat"), conditions=True
    )
    assert config.diffusion.conditions
    new = build_denoiser(config)
    new.load_state_dict(weights)
    own = collate([plain_example(rows(1, 20), CODEC)], [0], CODEC)
    x = torch.randn((1, 21, 5), generator=torch.Generator().manual_seed(2))
    t, mask = torch.tensor([20]), own.batch.mask
    before = old(x, t, torch.tensor([1]), mask)
    for seen in (None, own.condition, torch.ones_like(own.condition)):
        after = new.eval()(x, t, torch.tensor([0]), mask, seen)
        torch.testing.assert_close(after.x0, before.x0, rtol=1e-4, atol=1e-4)
