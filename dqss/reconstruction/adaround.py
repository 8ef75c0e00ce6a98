"""AdaRound: learn for each weight whether it is rounded up or down, so that the layer's outputs stay.

Nagel et al., "Up or Down? Adaptive Rounding for Post-Training Quantization" (ICML 2020). The loss is the layer-wise one
of equation 20, E[|dW x|^2] = tr(dW E[x x^T] dW^T), with the soft rounding and regulariser of equations 22 to 24. It
needs of the data only the second moment, so a step costs one small matrix product, sees all patches and draws no
random numbers. The activation function behind the layer and the quantization of the layers before it (equation 25) are
left out: a candidate must not depend on what other layers choose.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from dqss.moments import rows, unrows
from dqss.quantizers.base import Quantizer
from dqss.quantizers.mse import Mse
from dqss.reconstruction.base import Reconstruction

if TYPE_CHECKING:
    from dqss.calibrate import TensorSummary
    from dqss.graph import Layer
    from dqss.spec import QuantSpec

# The stretch of the rectified sigmoid (equation 23): it reaches 0 and 1, where its gradient would vanish otherwise.
ZETA, GAMMA = 1.1, -0.1


@dataclass(frozen=True)
class AdaRound(Reconstruction):
    """Adam on one rounding variable per weight, on the grid of another quantizer.

    Errors are counted in steps of the grid and the second moment is scaled to a mean diagonal of 1, so the options mean
    the same for every layer.

    Args:
        ranges: gives the grid.
        iterations: how many gradient steps.
        learning_rate: of the rounding variables.
        regularization: the weight of the regulariser against the reconstruction.
        warm_up: the share of the iterations before the regulariser sets in.
        beta_start: the regulariser's exponent where it sets in; a high one leaves all but the nearly decided alone.
        beta_end: its exponent in the end.
    """

    ranges: Quantizer = field(default_factory=Mse)
    iterations: int = 500
    learning_rate: float = 0.02
    regularization: float = 1.0
    warm_up: float = 0.2
    beta_start: float = 20.0
    beta_end: float = 2.0

    def __post_init__(self) -> None:
        if self.iterations < 1:
            raise ValueError(f"iterations: {self.iterations} is not allowed. Give at least 1.")
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate: {self.learning_rate} is not allowed. Give a number above 0.")
        if not self.regularization >= 0:
            raise ValueError(f"regularization: {self.regularization} is not allowed. Give 0 or more.")
        if not 0 <= self.warm_up < 1:
            raise ValueError(f"warm_up: {self.warm_up} is not allowed. Give a share from 0 to below 1.")
        if not self.beta_start >= self.beta_end > 0:
            raise ValueError(
                f"beta_end: {self.beta_end} is not allowed. Give a number above 0, at most beta_start "
                f"({self.beta_start})."
            )

    def quantized(self, layer: Layer, summary: TensorSummary, spec: QuantSpec, second_moment: Tensor) -> Tensor:
        grid = self.ranges.qparams(summary, spec)
        weight = layer.weight.detach().float()
        shape = [1] * weight.ndim
        if spec.channel_axis is not None:
            shape[spec.channel_axis] = -1
        scale, zero_point = grid.scale.view(shape), grid.zero_point.view(shape)
        low = rows(layer, (spec.quant_min - zero_point).expand(weight.shape))
        high = rows(layer, (spec.quant_max - zero_point).expand(weight.shape))
        steps = rows(layer, weight * (1 / scale))
        nearest = steps.round().clamp(low, high)
        learned = self._rounded(steps, low, high, second_moment)
        # Where a row's learned rounding ends above nearest rounding, the latter stays.
        better = row_errors(learned - steps, second_moment) < row_errors(nearest - steps, second_moment)
        chosen = torch.where(better[..., None], learned, nearest)
        return (unrows(layer, chosen) * scale).to(layer.weight.dtype)

    def _rounded(self, steps: Tensor, low: Tensor, high: Tensor, second_moment: Tensor) -> Tensor:
        """Return whole numbers within [low, high], each next to its value in `steps`; all (groups, outputs, d)."""
        moment = second_moment / second_moment.diagonal(dim1=1, dim2=2).mean().clamp(min=torch.finfo().tiny)
        floor = steps.floor()
        with torch.enable_grad():
            variables = unrectified(steps - floor).requires_grad_()
            optimizer = torch.optim.Adam([variables], lr=self.learning_rate)
            for iteration in range(self.iterations):
                up = rectified(variables)
                error = (floor + up).clamp(low, high) - steps
                loss = (torch.bmm(error, moment) * error).sum()
                progress = (iteration / self.iterations - self.warm_up) / (1 - self.warm_up)
                if progress >= 0:
                    beta = self.beta_end + (self.beta_start - self.beta_end) * (1 - progress)
                    loss = loss + self.regularization * regularizer(up, beta)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        return (floor + (variables.detach() >= 0)).clamp(low, high)


def rectified(variables: Tensor) -> Tensor:
    """Return h(V), the share by which a weight is rounded up, 0 to 1 (equation 23).

    >>> rectified(torch.tensor([-9.0, 0.0, 9.0]))
    tensor([0.0000, 0.5000, 1.0000])
    """
    return (variables.sigmoid() * (ZETA - GAMMA) + GAMMA).clamp(0, 1)


def unrectified(share: Tensor) -> Tensor:
    """Return the V of which `rectified` makes this share, 0 to 1."""
    return ((share - GAMMA) / (ZETA - GAMMA)).logit()


def regularizer(up: Tensor, beta: float) -> Tensor:
    """Return the sum of 1 - |2 h - 1|^beta, which is 0 where all are decided (equation 24)."""
    return (1 - (2 * up - 1).abs().pow(beta)).sum()


def row_errors(error: Tensor, second_moment: Tensor) -> Tensor:
    """Return (groups, outputs), the mean square of each output's error; `error` is (groups, outputs, d)."""
    error = error.double()
    return (torch.bmm(error, second_moment.double()) * error).sum(2)
