"""The denoiser as an ONNX file, and sampling with one by onnxruntime (the ``onnx`` extra).

The file holds one evaluation of the network, with every number that it was trained with; timesteps,
guidance and the sampler stay outside, in whatever language draws with it. Its inputs and outputs:

    x      (batch, points, D) float32   noisy state x_t
    t      (batch,) int64               noise level, 0 … T - 1
    label  (batch,) int64               class number; as many as there are classes is "no label"
    mask   (batch, points) bool         which points the drawing has
    condition (batch, points, 7) float32  what is seen of it (data.conditions), 0 for nothing; only
                                        of a network that was trained for conditions
    weight (batch,) float32             guidance weight; only of a distilled student
    x0, eps  (batch, points, D)         estimates of the clean state and of the noise
    pen    (batch, points, 3)           log-probabilities of draw, lift, end

The model's configuration (classes, codec, noise schedule) stands in the file's metadata as JSON,
with a student's steps and the way it was distilled.
"""

from __future__ import annotations

import contextlib
import copy
import io
import json
import logging
import warnings
from collections.abc import Iterator
from dataclasses import replace
from os import PathLike
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sketchknitter.diffusion.denoiser import BitPens, Denoised, Denoiser
from sketchknitter.errors import UserError
from sketchknitter.files import atomic
from sketchknitter.representation import Representation
from sketchknitter.systems.sketchknitter.model import DrawingModel

OUTPUTS = ("x0", "eps", "pen")
OPSET = 20
_EXTRA = "pip install 'sketchknitter[onnx]'"


class _AnyLength:
    """A representation's unit positions for a number of points that is known only at run time.

    The representation itself keeps one matrix for each number, which a graph cannot.
    """

    def __init__(self, representation: Representation) -> None:
        self.rho = representation.rho

    def unit_positions(self, z: Tensor) -> Tensor:
        """z (B, N, >= 2) -> (B, N, 2), as :meth:`Representation.unit_positions`."""
        steps = torch.arange(z.shape[1], device=z.device)
        if self.rho >= 1:
            return z[..., :2].cumsum(dim=1) / (steps + 1).to(z.dtype).sqrt()[:, None]
        lag = steps[:, None] - steps[None, :]
        sums = torch.where(lag >= 0, self.rho ** lag.clamp(min=0).to(z.dtype), 0.0)
        unit = (1 - self.rho**2) ** 0.5
        return (torch.where(steps == 0, 1.0, unit) * sums) @ z[..., :2]


def inputs_of(denoiser: Denoiser) -> tuple[str, ...]:
    """Names of the inputs of its graph, in order."""
    condition = ("condition",) if denoiser.condition else ()
    return ("x", "t", "label", "mask", *condition, *(("weight",) if denoiser.guided else ()))


class _Evaluation(nn.Module):
    """One call of the denoiser, for any number of points.

    A U-Net halves its points level by level, and an odd rest is a branch that no exported graph can
    take; so points outside the mask fill up to a multiple, and are cut off again.
    """

    def __init__(self, denoiser: Denoiser, multiple: int) -> None:
        super().__init__()
        self.denoiser, self.multiple = copy.copy(denoiser), multiple
        if denoiser.representation is not None:
            self.denoiser.representation = _AnyLength(denoiser.representation)  # type: ignore[assignment]

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        label: Tensor,
        mask: Tensor,
        condition: Tensor | None = None,
        weight: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        n, m = x.shape[1], self.multiple
        if m > 1:
            full = m * (n // m + 1)
            x = F.pad(x, (0, 0, 0, m))[:, :full]
            mask = F.pad(mask, (0, m))[:, :full]
            if condition is not None:
                condition = F.pad(condition, (0, 0, 0, m))[:, :full]
        out = self.denoiser(x, t, label, mask, condition, weight)
        return out.x0[:, :n], out.eps[:, :n], out.pen[:, :n]


def export(model: DrawingModel, path: str | PathLike[str], *, many_steps: bool = False) -> None:
    """Write the network that draws as an ONNX file of dynamic batch size and number of points.

    A model that learned its lengths (``length="learned"``) sees all its points always: then their
    number is fixed.

    Args:
        model: on the processor.
        path: the ``.onnx`` file; written whole or not at all.
        many_steps: the many-step network, also where the model has a student.

    Raises:
        UserError: the extra ``onnx`` is missing, or the folder is, or the model draws with such a
            file already.
    """
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError:
        raise UserError(f"{path}: export needs onnx and onnxscript; {_EXTRA}") from None
    student = None if many_steps else model.student
    denoiser = model.denoiser if student is None else student.denoiser
    if not isinstance(denoiser, nn.Module):
        raise UserError(f"{path}: onnxruntime evaluates this model; load it again to export it")
    denoiser.eval()
    config = model.config
    _ = denoiser.schedule.alpha_bar  # now: a table first made while tracing stays a traced one
    any_length = denoiser.length_given and config.network.backbone != "official"
    multiple = 2 ** (len(config.network.widths) - 1) if config.network.backbone == "unet1d" else 1
    batch, points = 3, config.codec.max_points
    b, n = torch.export.Dim("batch", min=1), torch.export.Dim("points", min=2)
    each = {0: b, 1: n} if any_length else {0: b}
    every: dict[str, tuple[Tensor, Any]] = {
        "x": (torch.randn(batch, points, model.width), each),
        "t": (torch.zeros(batch, dtype=torch.int64), {0: b}),
        "label": (torch.zeros(batch, dtype=torch.int64), {0: b}),
        "mask": (torch.ones(batch, points, dtype=torch.bool), each),
        "condition": (torch.zeros(batch, points, denoiser.condition), each),
        "weight": (torch.ones(batch), {0: b}),
    }
    names = inputs_of(denoiser)
    with _quiet(), torch.no_grad():
        program: Any = torch.onnx.export(
            _Evaluation(denoiser, multiple if any_length else 1).eval(),
            kwargs={name: every[name][0] for name in names},
            dynamo=True,
            dynamic_shapes={name: every[name][1] for name in names},
            input_names=list(names),
            output_names=list(OUTPUTS),
            opset_version=OPSET,
            verbose=False,
        )
    proto = program.model_proto
    notes: dict[str, Any] = config.to_dict()
    if student is not None:
        notes["student"] = {k: getattr(student, k) for k in ("steps", "way", "guidance")}
    proto.metadata_props.add(key="sketchknitter", value=json.dumps(notes))
    with atomic(path) as f:
        f.write(proto.SerializeToString())


@contextlib.contextmanager
def _quiet() -> Any:
    """torch tells its progress to whoever exports; a person wants the file."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


class OnnxDenoiser:
    """A denoiser that onnxruntime evaluates; :func:`use` puts it in the place of a model's own.

    Args:
        path: what :func:`export` wrote.
        denoiser: the one that was exported, for what is not in the graph: schedule, pens.
        threads: of the processor; 0 is onnxruntime's choice.

    Raises:
        UserError: no such file, another model's, or onnxruntime is missing.
    """

    def __init__(self, path: str | PathLike[str], denoiser: Denoiser, threads: int = 0) -> None:
        try:
            import onnxruntime
        except ImportError:
            raise UserError(f"{path}: needs onnxruntime; {_EXTRA}") from None
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime has a class of its own for each fault
            first = str(error).splitlines()[0]
            raise UserError(f"{path} is no ONNX file that can be run: {first}") from None
        names = tuple(i.name for i in self._session.get_inputs())
        if names != inputs_of(denoiser):
            raise UserError(f"{path}: its inputs are {', '.join(names)}; export it again")
        self.schedule, self.pens = denoiser.schedule, denoiser.pens
        self.length_given, self.representation = denoiser.length_given, denoiser.representation
        self.condition, self.guided = denoiser.condition, denoiser.guided
        self.state, self.device = denoiser.state, torch.device("cpu")
        self._exported = denoiser

    def parameters(self) -> Iterator[nn.Parameter]:
        """Those of the denoiser that was exported."""
        return self._exported.parameters()

    def state_dict(self) -> dict[str, Tensor]:
        """Weights of the denoiser that was exported, so the model can still be saved."""
        return self._exported.state_dict()

    def __call__(
        self,
        x_t: Tensor,
        t: Tensor,
        label: Tensor,
        mask: Tensor,
        condition: Tensor | None = None,
        weight: Tensor | None = None,
    ) -> Denoised:
        """As :meth:`Denoiser.forward`, without gradients."""
        values = {"x": x_t.float(), "t": t.long(), "label": label.long(), "mask": mask}
        if self.condition:
            nothing = x_t.new_zeros((*x_t.shape[:2], self.condition))
            values["condition"] = nothing if condition is None else condition.float()
        if self.guided:
            values["weight"] = torch.ones(len(x_t)) if weight is None else weight.float()
        feed = {k: np.ascontiguousarray(v.detach().cpu().numpy()) for k, v in values.items()}
        x0, eps, pen = (torch.from_numpy(v) for v in self._session.run(OUTPUTS, feed))
        return Denoised(x0, eps, None if isinstance(self.pens, BitPens) else pen)


def use(model: DrawingModel, path: str | PathLike[str], threads: int = 0) -> None:
    """Let onnxruntime evaluate what the model draws with.

    The model then stays on the processor (:meth:`DrawingModel.to` refuses); saving it writes the
    weights that it had.

    Args:
        model: whose network ``path`` holds; changed in place.
        path, threads: see :class:`OnnxDenoiser`.

    Raises:
        UserError: as :class:`OnnxDenoiser`.
    """
    if model.student is None:
        model.denoiser = OnnxDenoiser(path, model.denoiser, threads)  # type: ignore[assignment]
        return
    runtime: Any = OnnxDenoiser(path, model.student.denoiser, threads)
    model.__dict__["student"] = replace(model.student, denoiser=runtime)
