"""Names that settings choose from; apart, so that the command line reads them without torch."""

from __future__ import annotations

from typing import Literal

ScheduleName = Literal["linear", "cosine"]
ParametrizationName = Literal["eps", "v", "x0"]
PenName = Literal["head", "bits"]
LevelSamplerName = Literal["uniform", "loss-second-moment"]
