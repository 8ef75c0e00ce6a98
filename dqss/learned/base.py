"""The interface of learned quantization: from what calibration saw to a module that trains with the network."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from torch import Tensor, nn

from dqss.functional import SMALLEST_SCALE, Qparams

if TYPE_CHECKING:
    from dqss.calibrate import TensorSummary
    from dqss.quantizers.base import Quantizer
    from dqss.spec import QuantSpec


class LearnedQuantizer(nn.Module, ABC):
    """Fake quantization of one tensor, with parameters that are trained with the network's own.

    Life cycle: made by a Learned from calibration; called on the tensor at each step; asked for its grid when the
    network is deployed. A grid that depends on the tensor, as of running extremes, is that of the latest call.
    """

    def __init__(self, spec: QuantSpec) -> None:
        super().__init__()
        self.spec = spec

    def __call__(self, x: Tensor) -> Tensor:
        quantized: Tensor = super().__call__(x)
        return quantized

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` quantized, in float, of its shape and type; halves are worked on in float32, as elsewhere."""
        features = values_per_sample(x)
        if x.dtype in (torch.float16, torch.bfloat16):
            return self.quantized(x.float(), features).to(x.dtype)
        return self.quantized(x, features)

    @abstractmethod
    def quantized(self, x: Tensor, features: int) -> Tensor:
        """Return `x` quantized, in float.

        Gradients flow to x and to the module's parameters as the algorithm's paper defines them. On a per-tensor grid
        all of it is elementwise, but for extremes that are observed.

        Args:
            x: any shape.
            features: how many values one sample of the layer's input has, whatever the shape in which x brings them.
        """

    def transformed(self, x: Tensor) -> Tensor:
        """Return what is rounded to the grid: x itself, except where the algorithm changes values before."""
        return x

    def qparams(self) -> Qparams:
        """Return the grid as it stands: `fake_quantize(q.transformed(x), q.qparams())` is `q(x)`.

        Raises:
            NotImplementedError: the algorithm's grid is not uniform.
        """
        raise NotImplementedError(f"{type(self).__name__} has no uniform grid. Keep its fake-quantized values instead.")

    def expanded(self, values: Tensor, x: Tensor) -> Tensor:
        """Return (C,) values in the type of x and in a shape that broadcasts with it."""
        shape = [1] * x.ndim
        if self.spec.channel_axis is not None:
            shape[self.spec.channel_axis] = -1
        return values.view(shape).to(x.dtype)

    def by_channel(self, x: Tensor) -> Tensor:
        """Return (C, n), the values that share a grid in a row each."""
        axis = self.spec.channel_axis
        return x.reshape(1, -1) if axis is None else x.transpose(0, axis).flatten(1)


class Learned:
    """One algorithm. A subclass is a frozen dataclass whose fields are the algorithm's options; it keeps no data.

    Attributes:
        weight_from: where it has no form for weights, the name in LEARNED of the algorithm that quantizes them.
        activation_from: likewise, of the one that quantizes activations.
        uniform: whether its levels are evenly spaced, so that integers can be deployed.
    """

    weight_from: ClassVar[str | None] = None
    activation_from: ClassVar[str | None] = None
    uniform: ClassVar[bool] = True

    def beginning_at(self, ranges: Quantizer) -> Self:
        """Return the algorithm with quantizers that begin at the ranges which a PTQ algorithm finds.

        One whose ranges come of the tensor itself, at each step or by its paper, stays as it is.
        """
        if not (is_dataclass(self) and any(option.name == "ranges" for option in fields(self))):
            return self
        return replace(self, ranges=ranges)

    def for_weight(self, weight: Tensor, summary: TensorSummary, spec: QuantSpec) -> LearnedQuantizer:
        """Return a module for a weight, which begins where calibration says.

        Args:
            weight: any shape; only read.
            summary: of that weight.
            spec: a symmetric grid.

        Raises:
            NotImplementedError: the algorithm has no form for weights.
            ValueError: the summary has seen no value.
        """
        raise NotImplementedError(f"{type(self).__name__} has no form for weights. Take '{self.weight_from}' for them.")

    def for_activation(self, summary: TensorSummary, spec: QuantSpec) -> LearnedQuantizer:
        """Return a module for a layer's inputs, which begins where calibration says.

        Args:
            summary: of the inputs seen in calibration.
            spec: a per-tensor grid.

        Raises:
            NotImplementedError: the algorithm has no form for activations.
            ValueError: the summary has seen no value.
        """
        raise NotImplementedError(
            f"{type(self).__name__} has no form for activations. Take '{self.activation_from}' for them."
        )


def with_gradient_of(surrogate: Tensor, value: Tensor) -> Tensor:
    """Return `value`, with the gradient of `surrogate`: the straight-through estimator.

    >>> x = torch.tensor([0.4, 1.7], requires_grad=True)
    >>> rounded = with_gradient_of(x, x.detach().round())
    >>> (rounded * torch.tensor([1.0, 2.0])).sum().backward()
    >>> rounded.tolist(), x.grad.tolist()
    ([0.0, 2.0], [1.0, 2.0])
    """
    result: Tensor = _WithGradientOf.apply(surrogate, value)  # type: ignore[no-untyped-call]
    return result


def codes_of(x: Tensor, qparams: Qparams) -> Tensor:
    """Return q - zero_point, in float and without a gradient: what `fake_quantize` multiplies by the scale.

    >>> from dqss.spec import QuantSpec
    >>> grid = Qparams(torch.tensor([0.5]), torch.tensor([0], dtype=torch.int32), QuantSpec(2, symmetric=True))
    >>> codes_of(torch.tensor([-9.0, 0.4, 9.0]), grid)
    tensor([-2.,  1.,  1.])
    """
    spec, axis = qparams.spec, qparams.spec.channel_axis
    shape = [1 if position != axis else -1 for position in range(x.ndim)]
    scale = qparams.scale.view(shape).to(x.dtype)
    zero_point = qparams.zero_point.view(shape).to(x.dtype)
    # By the reciprocal, as `fake_quantize` does, so that both round alike.
    steps = (x.detach() * (1 / scale)).round_()
    return torch.minimum(torch.maximum(steps, spec.quant_min - zero_point), spec.quant_max - zero_point)


def with_scaled_gradient(x: Tensor, factor: float) -> Tensor:
    """Return `x`, with its gradient times `factor`."""
    return with_gradient_of(x * factor, x.detach())


def gradient_scale(count: int, high: int) -> float:
    """Return 1 / sqrt(N Q_P), by which a step's gradient is as large, relative to the step, as one weight's to it.

    Esser et al., "Learned Step Size Quantization" (ICLR 2020), section 2.2.

    >>> gradient_scale(25, 4)
    0.1
    """
    return 1 / math.sqrt(max(count, 1) * high)


def values_per_sample(x: Tensor) -> int:
    """Return the number of features of a layer's input, without the batch."""
    return math.prod(x.shape[1:])


def positive(scale: Tensor) -> Tensor:
    """Return the magnitude of a learned scale, kept off 0, through which a step of the optimiser may take it."""
    return scale.abs().clamp(min=SMALLEST_SCALE)


class _WithGradientOf(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, surrogate: Tensor, value: Tensor) -> Tensor:
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None
