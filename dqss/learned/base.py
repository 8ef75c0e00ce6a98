"""The interface of learned quantization: from what calibration saw of a tensor to a module that trains with the network."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from dqss.functional import SMALLEST_SCALE, Qparams

if TYPE_CHECKING:
    from dqss.calibrate import TensorSummary
    from dqss.spec import QuantSpec


class LearnedQuantizer(nn.Module, ABC):
    """Fake quantization of one tensor, with parameters that are trained with the network's own.

    Life cycle: made by a Learned from calibration; called on the tensor at each step; asked for its grid when the
    network is deployed. A grid that depends on the tensor, as of running extremes, is that of the latest call.
    """

    def __init__(self, spec: QuantSpec) -> None:
        super().__init__()
        self.spec = spec

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """Return `x` quantized, in float, of its shape and type.

        Gradients flow to x and to the module's parameters as the algorithm's paper defines them.
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


class Learned(ABC):
    """One algorithm. A subclass is a frozen dataclass whose fields are the algorithm's options; it keeps no data.

    Attributes:
        pairs_with: the name, in LEARNED, of the algorithm that quantizes the kind of tensor this one has no form for;
            None where it has both forms.
        uniform: whether its levels are evenly spaced, so that integers can be deployed.
    """

    pairs_with: ClassVar[str | None] = None
    uniform: ClassVar[bool] = True

    @abstractmethod
    def for_weight(self, weight: Tensor, summary: TensorSummary, spec: QuantSpec) -> LearnedQuantizer:
        """Return a module for a weight, which begins where calibration says.

        Args:
            weight: any shape; only read.
            summary: of that weight.
            spec: a symmetric grid.

        Raises:
            NotImplementedError: the algorithm has no form for weights; it `pairs_with` one that has.
        """

    @abstractmethod
    def for_activation(self, summary: TensorSummary, spec: QuantSpec) -> LearnedQuantizer:
        """Return a module for a layer's inputs, which begins where calibration says.

        Args:
            summary: of the inputs seen in calibration.
            spec: a per-tensor grid.

        Raises:
            NotImplementedError: the algorithm has no form for activations; it `pairs_with` one that has.
        """


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


def rounded(x: Tensor) -> Tensor:
    """Return `x` rounded, ties to even, with a gradient of 1."""
    return with_gradient_of(x, x.detach().round())


def with_scaled_gradient(x: Tensor, factor: float) -> Tensor:
    """Return `x`, with its gradient times `factor`."""
    return with_gradient_of(x * factor, x.detach())


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
