"""One pass over the calibration set, from which every algorithm takes its range."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from dqss.graph import Prepared
from dqss.inputs import Batch, call, layer_input
from dqss.moments import MeanInput

if TYPE_CHECKING:
    from dqss.functional import Qparams
    from dqss.quantizers.base import Quantizer
    from dqss.reconstruction.base import Reconstruction
    from dqss.spec import QuantSpec

BINS = 4096

AVERAGING = 0.01
"""The weight of a new batch in the averaged extremes, as in torch.ao's MovingAverageMinMaxObserver."""

LARGEST = torch.finfo(torch.float32).max / 4
"""Beyond it the doubled limit of a TensorSummary, or the lowest value of a grid, may overflow."""


class TensorSummary:
    """Extremes and histogram of a tensor seen in batches, per channel or as a whole; its size does not grow.

    A channel's bins divide [-limit, limit] evenly. Where a batch exceeds the limit, the limit doubles as often as
    needed and neighbouring bins merge, so counts stay exact. The limit is at most twice the largest magnitude seen,
    hence a bin is at most 4 / BINS of that magnitude wide, which bounds the error of every position read off the
    histogram. Sums over the values take them to be spread evenly within their bin.

    Args:
        channel_axis: the axis kept apart; None for the whole tensor.

    Attributes:
        low, high: (C,) exact extremes; C = 0 before any value was seen.
        average_low, average_high: (C,) averages of the batches' extremes, in which each new one weighs AVERAGING.
        limit: (C,).
        counts: (C, BINS) int64.
        grids: (quantizer, spec) -> what was worked out for the values seen so far.
        shrunken: (spec, candidates) -> likewise, what quantizers.shrink shares among algorithms.
        divergences: spec -> likewise, what quantizers.kl shares among its thresholds' searches.
    """

    def __init__(self, channel_axis: int | None = None) -> None:
        self.channel_axis = channel_axis
        self.low = self.high = self.average_low = self.average_high = self.limit = torch.zeros(0)
        self.counts = torch.zeros(0, BINS, dtype=torch.int64)
        self.grids: dict[tuple[Quantizer, QuantSpec], Qparams] = {}
        self.shrunken: dict[tuple[QuantSpec, int], tuple[Tensor, Tensor, Tensor]] = {}
        self.divergences: dict[QuantSpec, Tensor] = {}
        self._sums: Tensor | None = None
        self._totals: Tensor | None = None

    def update(self, x: Tensor) -> None:
        """Count a batch.

        Raises:
            ValueError: `x` holds NaN, infinity or a magnitude above LARGEST.
        """
        self.grids.clear()
        self.shrunken.clear()
        self.divergences.clear()
        self._sums = self._totals = None
        x = x.detach().float()
        rows = x.reshape(1, -1) if self.channel_axis is None else x.transpose(0, self.channel_axis).flatten(1)
        if rows.shape[1] == 0:
            return
        # On a CPU twenty times faster than `aminmax` along an axis.
        low, high = rows.amin(1), rows.amax(1)
        # Written so that NaN, which compares as False, is refused too.
        if not bool((torch.maximum(-low, high) <= LARGEST).all()):
            raise ValueError(f"NaN, infinity or a magnitude above {LARGEST:.1e}. Check the model and its inputs.")
        if len(self.low) == 0:
            self.low, self.high = self.average_low, self.average_high = low, high
            self.limit = torch.zeros_like(low)
            self.counts = torch.zeros(len(low), BINS, dtype=torch.int64, device=x.device)
        self.low, self.high = torch.minimum(self.low, low), torch.maximum(self.high, high)
        self.average_low = self.average_low + AVERAGING * (low - self.average_low)
        self.average_high = self.average_high + AVERAGING * (high - self.average_high)
        self._grow(torch.maximum(-low, high))
        # Halving rows / limit is exact, so a value falls in the same bin whether it is counted before or after a merge.
        divisor = torch.where(self.limit > 0, self.limit, torch.ones_like(self.limit))
        position = (rows / divisor[:, None]).mul_(BINS // 2).floor_().add_(BINS // 2).int()
        if len(rows) > 1:
            position += torch.arange(len(rows), device=x.device, dtype=torch.int32)[:, None] * (BINS + 1)
        # The limit itself falls behind the last bin, to which it belongs.
        found = torch.bincount(position.flatten(), minlength=len(rows) * (BINS + 1)).view(-1, BINS + 1)
        found[:, -2] += found[:, -1]
        self.counts += found[:, :-1]

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

    def moments(self, positions: Tensor, highest: int = 2) -> Tensor:
        """Return what lies below each position: how many values, their sum and the sum of their squares.

        Args:
            positions: (C, ...) float64, in units of `limit`.
            highest: the highest power summed, 0 to 2; without the squares it is done sooner.

        Returns:
            (highest + 1, C, ...) float64; sums in units of `limit`, squares of its square.
        """
        if self._sums is None:
            self._sums = self._running()
        flat = positions.flatten(1).clamp(-1, 1)
        below = (flat + 1).mul_(BINS // 2).int().clamp_(max=BINS - 1)
        edge = below * (2 / BINS) - 1
        below += torch.arange(len(below), device=below.device, dtype=torch.int32)[:, None] * (BINS + 1)
        # On a CPU three times as fast as `gather`.
        at, found = below.reshape(-1), flat.new_empty(highest + 2, flat.numel())
        for sums, read in zip(self._sums, found, strict=False):
            torch.index_select(sums.view(-1), 0, at, out=read)
        density, *moments = found.view(-1, *flat.shape)
        moments[0].addcmul_(flat - edge, density)
        for power, moment in enumerate(moments[1:], start=2):
            moment.addcmul_((flat**power).sub_(edge**power), density, value=1 / power)
        return found[1:].view(-1, *positions.shape)

    def _running(self) -> Tensor:
        """Return (4, C, BINS + 1) float64: the density from each edge of a bin on, and the moments below it."""
        edges = torch.linspace(-1, 1, BINS + 1, dtype=torch.float64, device=self.counts.device)
        lower, upper = edges[:-1], edges[1:]
        means = [torch.ones_like(lower), (lower + upper) / 2, (lower**2 + lower * upper + upper**2) / 3]
        counts = self.counts.double()
        sums = edges.new_empty(4, len(counts), BINS + 1)
        torch.mul(counts, BINS // 2, out=sums[0, :, :-1])
        sums[0, :, -1] = sums[1:, :, 0] = 0
        filled = torch.empty_like(counts)
        for mean, below in zip(means, sums[1:], strict=True):
            torch.cumsum(torch.mul(counts, mean, out=filled), 1, out=below[:, 1:])
        return sums

    @property
    def totals(self) -> Tensor:
        """(3, C) float64, the `moments` of all values seen."""
        if self._totals is None:
            self._totals = self.moments(torch.ones_like(self.unit)[:, None])[..., 0]
        return self._totals

    def moments_between(self, boundaries: Tensor) -> Tensor:
        """Return the moments of what lies below the first boundary, between each two, and above the last.

        Args:
            boundaries: (C, ..., L - 1) float64, ascending, in units of `limit`.

        Returns:
            (3, C, ..., L) float64, as `moments`.
        """
        ends = torch.ones_like(boundaries[..., :1])
        below = self.moments(torch.cat([-ends, boundaries, ends], dim=-1))
        return below[..., 1:] - below[..., :-1]

    def per_level(self, scale: Tensor, zero_point: Tensor, spec: QuantSpec) -> tuple[Tensor, Tensor]:
        """Return a grid's levels and the moments of what is rounded to each, for several scales at once.

        Args:
            scale: (C, K) float64, in units of `limit`.
            zero_point: (C,).
            spec: with L levels.

        Returns:
            (C, K, L) levels in units of `limit`, and (3, C, K, L) moments as of `moments`.
        """
        codes = torch.arange(spec.quant_min, spec.quant_max + 1, device=scale.device) - zero_point[:, None].double()
        levels = codes[:, None] * scale[..., None]
        return levels, self.moments_between((codes[:, None, :-1] + 0.5) * scale[..., None])

    @property
    def unit(self) -> Tensor:
        """(C,) float64, the limit; 1 where all values are 0."""
        return torch.where(self.limit > 0, self.limit, torch.ones_like(self.limit)).double()

    def squared_error(self, qparams: Qparams) -> Tensor:
        """Return (C,), the sum of all values' squared distances to the grid, to the histogram's precision."""
        scale = qparams.scale.double() / self.unit
        levels, (count, total, square) = self.per_level(scale[:, None], qparams.zero_point, qparams.spec)
        error: Tensor = square - 2 * levels * total + levels.square() * count
        return error.sum((1, 2)).clamp(min=0) * self.limit.double().square()

    @property
    def energy(self) -> Tensor:
        """(C,), the sum of the squares of all values seen, to the histogram's precision."""
        return self.totals[2] * self.limit.double().square()

    @property
    def occupied(self) -> tuple[Tensor, Tensor]:
        """(C, n) middles and counts of the bins that are not empty; a channel with fewer than n has bins of count 0."""
        channel, position = self.counts.nonzero(as_tuple=True)
        used = torch.bincount(channel, minlength=len(self.counts))
        column = torch.arange(len(channel), device=channel.device) - (used.cumsum(0) - used)[channel]
        middles = self.limit.new_zeros(len(used), int(used.max()), dtype=torch.float64)
        counts = torch.zeros_like(middles)
        middles[channel, column] = self.centers[channel, position].double()
        counts[channel, column] = self.counts[channel, position].double()
        return middles, counts

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
        means: layer name -> the mean of its inputs.
        batches: the model's inputs.
        second_moments: layer name -> that of its inputs; empty until a reconstruction asks for it.
        reconstructed: (layer name, reconstruction, spec) -> the weight, once made; it is made from the above alone.
    """

    activations: dict[str, TensorSummary]
    weights: dict[str, TensorSummary]
    targets: list[Tensor]
    means: dict[str, MeanInput]
    batches: Sequence[Batch]
    second_moments: dict[str, Tensor] = field(default_factory=dict)
    reconstructed: dict[tuple[str, Reconstruction, QuantSpec], Tensor] = field(default_factory=dict)


def calibrate(prepared: Prepared, batches: Sequence[Batch], report: Callable[[str, int, int], None]) -> Calibration:
    """Run the full-precision model once over the batches and summarise each layer's weights and inputs.

    Raises:
        ValueError: no batches, an empty one, or a tensor that TensorSummary refuses.
    """
    if not batches:
        raise ValueError("calibration_batches: empty. Give at least one batch of model inputs.")
    activations = {name: TensorSummary() for name in prepared.layers}
    means = {name: MeanInput() for name in prepared.layers}
    weights = {}
    for name, layer in prepared.layers.items():
        weights[name] = TensorSummary(prepared.specs[name].weight.channel_axis)
        _count(weights[name], layer.weight, f"weights of layer '{name}'")

    def counter(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], dict[str, Tensor]], None]:
        def count(module: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Tensor]) -> None:
            x = layer_input(args, kwargs)
            _count(activations[name], x, f"inputs of layer '{name}'")
            means[name].update(prepared.layers[name], x)

        return count

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
    return Calibration(activations, weights, targets, means, batches)


def _count(summary: TensorSummary, x: Tensor, what: str) -> None:
    try:
        summary.update(x)
    except ValueError as error:
        raise ValueError(f"{what}: {error}") from error
