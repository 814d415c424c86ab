"""A prior for systems that have none: a Gaussian mixture over the codes of training drawings.

An autoencoder draws what it is given a code of; to draw something new it needs codes that nobody
made. They come from a mixture fitted to codes of *training* drawings, for each class its own, with
as many components as explain held-out codes best. Codes of test drawings are never seen.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sketchknitter.errors import UserError

Floats = NDArray[np.float64]

COMPONENTS = (1, 2, 3, 5, 10)  # tried for each class


@dataclass(frozen=True, eq=False)
class CodeMixture:
    """Gaussian mixtures with full covariances over codes of K numbers, one for each class.

    Attributes:
        owner: class index of each component, (M,) int64; -1 for drawings without a label.
        weights: of each component, (M,); those of one class add up to 1.
        means: (M, K).
        factors: lower triangular roots of the covariances, (M, K, K).
    """

    owner: NDArray[np.int64]
    weights: Floats
    means: Floats
    factors: Floats

    @classmethod
    def fit(
        cls,
        codes: NDArray[Any],
        labels: NDArray[Any],
        held_out: tuple[NDArray[Any], NDArray[Any]] | None = None,
        *,
        components: Sequence[int] = COMPONENTS,
        seed: int = 0,
    ) -> CodeMixture:
        """Fit by expectation maximization (scikit-learn's ``GaussianMixture``).

        Args:
            codes: of training drawings, (n, K).
            labels: their class indices, (n,); -1 without one.
            held_out: codes and labels of validation drawings, which choose the number of
                components of each class; without them it is the first of ``components``.
            components: numbers tried; one that leaves fewer than 2 codes a component is not.
            seed: of the initialization.

        Raises:
            UserError: scikit-learn is missing, or there are no codes.
        """
        try:
            from sklearn.exceptions import ConvergenceWarning
            from sklearn.mixture import GaussianMixture
        except ImportError:
            raise UserError(
                "a mixture of codes needs scikit-learn: pip install 'sketchknitter[baselines]'"
            ) from None
        codes = np.asarray(codes, dtype=np.float64)
        labels = np.asarray(labels, dtype=np.int64)
        if not len(codes):
            raise UserError("there are no codes to fit a mixture to")
        parts: list[tuple[int, Floats, Floats, Floats]] = []
        for owner in np.unique(labels):
            own = codes[labels == owner]
            # a ridge of a thousandth of the mean variance keeps small classes invertible
            ridge = 1e-3 * max(float(own.var(axis=0).mean()), 1e-6)
            unseen = held_out[0][held_out[1] == owner] if held_out is not None else own[:0]
            best, best_score = None, -np.inf
            for count in components if len(unseen) else components[:1]:
                if count > 1 and 2 * count > len(own):
                    continue
                made = GaussianMixture(min(count, len(own)), reg_covar=ridge, random_state=seed)
                padded = own if len(own) > 1 else np.repeat(own, 2, axis=0)
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", ConvergenceWarning)
                    made.fit(padded)
                score = float(made.score(unseen)) if len(unseen) else 0.0
                if score > best_score:
                    best, best_score = made, score
            assert best is not None  # the first number of components always fits
            factors = np.linalg.cholesky(best.covariances_)
            parts.append((int(owner), best.weights_, best.means_, factors))
        return cls(
            np.concatenate([np.full(len(w), o, dtype=np.int64) for o, w, _, _ in parts]),
            np.concatenate([w for _, w, _, _ in parts]),
            np.concatenate([m for _, _, m, _ in parts]),
            np.concatenate([f for _, _, _, f in parts]),
        )

    def sample(
        self, label: int, rng: np.random.Generator, temperature: float = 1.0
    ) -> NDArray[np.float32]:
        """One code (K,) for a class.

        Args:
            label: class index; one that the mixture does not know, -1 say, takes any component.
            rng: the drawing's own random stream.
            temperature: standard deviations are multiplied by its root; 0 gives a component's mean.
        """
        own = np.flatnonzero(self.owner == label)
        if not len(own):
            own = np.arange(len(self.owner))
        share = self.weights[own] / self.weights[own].sum()
        chosen = own[int(np.searchsorted(np.cumsum(share)[:-1], rng.random(), side="right"))]
        noise = self.factors[chosen] @ rng.standard_normal(self.means.shape[1])
        return (self.means[chosen] + temperature**0.5 * noise).astype(np.float32)

    # -- storing ---------------------------------------------------------------------------------
    def tensors(self, prefix: str = "mixture.") -> dict[str, Tensor]:
        """What a checkpoint stores."""
        return {
            f"{prefix}owner": torch.from_numpy(self.owner),
            f"{prefix}weights": torch.from_numpy(self.weights),
            f"{prefix}means": torch.from_numpy(self.means),
            f"{prefix}factors": torch.from_numpy(self.factors),
        }

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], prefix: str = "mixture.") -> CodeMixture:
        """The inverse of :meth:`tensors`.

        Raises:
            UserError: a part is missing.
        """
        names = ("owner", "weights", "means", "factors")
        if missing := [n for n in names if f"{prefix}{n}" not in tensors]:
            raise UserError(f"the mixture of codes lacks its {', '.join(missing)}")
        return cls(*(tensors[f"{prefix}{n}"].numpy() for n in names))
