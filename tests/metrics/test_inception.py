import numpy as np
import pytest
import torch

from sketchknitter import Sketch, UserError
from sketchknitter.metrics.inception import Inception


class Stub(torch.nn.Module):
    """Answers as the TorchScript Inception does: features or class probabilities."""

    def forward(self, x: torch.Tensor, return_features: bool = False) -> torch.Tensor:
        assert x.dtype == torch.uint8
        assert x.shape[1:] == (3, 256, 256)
        row = (255 - x.float()).mean(dim=(2, 3))
        return row if return_features else torch.softmax(row, dim=1)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_pictures_are_the_papers_and_answers_become_features(tmp_path):
    torch.jit.script(Stub()).save(str(tmp_path / "net.pt"))
    network = Inception(tmp_path / "net.pt")
    sketches = [Sketch([[(0, 0), (100, k)]]) for k in range(40)]
    found = network.embed(sketches)
    assert found.vectors.shape == (40, 3)
    assert found.vectors.dtype == np.float64
    assert found.probabilities.sum(1) == pytest.approx(np.ones(40), abs=1e-12)
    assert found.classes == ()
    # a 6 px line across 88 % of 256 px, black on white
    assert found.vectors[0, 0] / 255 == pytest.approx(6 * (0.88 * 256 + 6) / 256**2, rel=0.1)


def test_absent_or_foreign_weights_are_refused(tmp_path, monkeypatch):
    monkeypatch.delenv("SKETCHKNITTER_INCEPTION", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(UserError, match=r"no Inception weights.*SKETCHKNITTER_INCEPTION"):
        Inception()
    (tmp_path / "junk.pt").write_bytes(b"no network")
    with pytest.raises(UserError, match="not the TorchScript file"):
        Inception(tmp_path / "junk.pt")
