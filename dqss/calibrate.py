"""One pass over the calibration set, from which every algorithm takes its range."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from dqss.functional import Qparams, fake_quantize
from dqss.graph import Batch, Prepared, call

if TYPE_CHECKING:
    from dqss.quantizers.base import Quantizer
    from dqss.spec import QuantSpec

BINS = 4096

LARGEST = torch.finfo(torch.float32).max / 4
"""Beyond it the doubled limit of a TensorSummary, or the lowest value of a grid, may overflow."""


class TensorSummary:
    """Extremes and histogram of a tensor seen in batches, per channel or as a whole; its size does not grow.

    A channel's bins divide [-limit, limit] evenly. Where a batch exceeds the limit, the limit doubles as often as
    needed and neighbouring bins merge, so counts stay exact. The limit is at most twice the largest magnitude seen,
    hence a bin is at most 4 / BINS of that magnitude wide, which bounds the error of every position read off the
    histogram.

    Args:
        channel_axis: the axis kept apart; None for the whole tensor.

    Attributes:
        low, high: (C,) exact extremes, 0 before any value was seen.
        limit: (C,).
        counts: (C, BINS) int64.
        grids: (quantizer, spec) -> what was worked out for the values seen so far.
    """

    def __init__(self, channel_axis: int | None = None) -> None:
        self.channel_axis = channel_axis
        self.low = self.high = self.limit = torch.zeros(0)
        self.counts = torch.zeros(0, BINS, dtype=torch.int64)
        self.grids: dict[tuple[Quantizer, QuantSpec], Qparams] = {}

    def update(self, x: Tensor) -> None:
        """Count a batch.

        Raises:
            ValueError: `x` holds NaN, infinity or a magnitude above LARGEST.
        """
        self.grids.clear()
        x = x.detach().float()
        rows = x.reshape(1, -1) if self.channel_axis is None else x.transpose(0, self.channel_axis).flatten(1)
        if rows.shape[1] == 0:
            return
        low, high = rows.aminmax(dim=1)
        # Written so that NaN, which compares as False, is refused too.
        if not bool((torch.maximum(-low, high) <= LARGEST).all()):
            raise ValueError(f"NaN, infinity or a magnitude above {LARGEST:.1e}. Check the model and its inputs.")
        if len(self.low) == 0:
            self.low, self.high = low, high
            self.limit = torch.zeros_like(low)
            self.counts = torch.zeros(len(low), BINS, dtype=torch.int64, device=x.device)
        self.low, self.high = torch.minimum(self.low, low), torch.maximum(self.high, high)
        self._grow(torch.maximum(-low, high))
        # Halving rows / limit is exact, so a value falls in the same bin whether it is counted before or after a merge.
        divisor = torch.where(self.limit > 0, self.limit, torch.ones_like(self.limit))
        position = (rows / divisor[:, None]).mul_(BINS // 2).floor_().int().add_(BINS // 2).clamp_(max=BINS - 1)
        position += torch.arange(len(rows), device=x.device, dtype=torch.int32)[:, None] * BINS
        self.counts += torch.bincount(position.flatten(), minlength=self.counts.numel()).view_as(self.counts)

    def _grow(self, reach: Tensor) -> None:
        first = (self.limit == 0) & (reach > 0)
        self.limit = torch.where(first, reach, self.limit)
        while (small := reach > self.limit).any():
            merged = torch.zeros_like(self.counts[small])
            merged[:, BINS // 4 : 3 * BINS // 4] = self.counts[small].view(-1, BINS // 2, 2).sum(2)
            self.counts[small] = merged
            self.limit = torch.where(small, 2 * self.limit, self.limit)

    @property
    def reach(self) -> Tensor:
        """(C,), the largest magnitude seen."""
        return torch.maximum(-self.low, self.high).clamp(min=0)

    @property
    def centers(self) -> Tensor:
        """(C, BINS), the middle of each bin."""
        steps = (torch.arange(BINS, device=self.limit.device) + 0.5) * (2 / BINS) - 1
        return self.limit[:, None] * steps

    def squared_error(self, qparams: Qparams) -> Tensor:
        """Return (C,), the sum of all values' squared distances to the grid, to the histogram's precision."""
        used = self.counts.any(0)
        centers = self.centers[:, used]
        rounded = fake_quantize(centers, replace(qparams, spec=replace(qparams.spec, channel_axis=0)))
        return (self.counts[:, used] * (rounded - centers).double().square()).sum(1)

    @property
    def energy(self) -> Tensor:
        """(C,), the sum of the squares of all values seen, to the histogram's precision."""
        return (self.counts * self.centers.double().square()).sum(1)

    @property
    def magnitudes(self) -> Tensor:
        """(C, BINS / 2) int64, the histogram of |x| over [0, limit]."""
        half = BINS // 2
        return self.counts[:, half:] + self.counts[:, :half].flip(1)


@dataclass(frozen=True)
class Calibration:
    """What one pass over the calibration set leaves.

    Args:
        activations: layer name -> summary of the layer's inputs.
        weights: layer name -> summary of its weights.
        targets: the full-precision model's output for each batch.
    """

    activations: dict[str, TensorSummary]
    weights: dict[str, TensorSummary]
    targets: list[Tensor]


def calibrate(prepared: Prepared, batches: Sequence[Batch], report: Callable[[str, int, int], None]) -> Calibration:
    """Run the full-precision model once over the batches and summarise each layer's weights and inputs.

    Raises:
        ValueError: no batches, an empty one, or a tensor that TensorSummary refuses.
    """
    if not batches:
        raise ValueError("calibration_batches: empty. Give at least one batch of model inputs.")
    activations = {name: TensorSummary() for name in prepared.layers}
    weights = {}
    for name, layer in prepared.layers.items():
        weights[name] = TensorSummary(prepared.specs[name].weight.channel_axis)
        _count(weights[name], layer.weight, f"weights of layer '{name}'")

    def counter(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], dict[str, Tensor]], None]:
        what = f"inputs of layer '{name}'"
        return lambda module, args, kwargs: _count(activations[name], args[0] if args else kwargs["input"], what)

    hooks = [
        layer.register_forward_pre_hook(counter(name), with_kwargs=True) for name, layer in prepared.layers.items()
    ]
    targets: list[Tensor] = []
    try:
        with torch.no_grad():
            for done, batch in enumerate(batches, start=1):
                targets.append(call(prepared.model, batch))
                if targets[-1].numel() == 0:
                    raise ValueError(f"calibration_batches: batch {done} of {len(batches)} is empty. Leave it out.")
                report("calibration", done, len(batches))
    finally:
        for hook in hooks:
            hook.remove()
    return Calibration(activations, weights, targets)


def _count(summary: TensorSummary, x: Tensor, what: str) -> None:
    try:
        summary.update(x)
    except ValueError as error:
        raise ValueError(f"{what}: {error}") from error
