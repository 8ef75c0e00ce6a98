"""Histogram range: shed the tails bin by bin as long as the squared quantization error falls.

The non-linear parameter search of PyTorch's HistogramObserver, which follows NormMinimization of caffe2's quantization
server, a companion of FBGEMM (arXiv 2101.05615). Unlike there, the whole range is kept where the search, whose first
cut is made unseen, ends with a larger error.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from math import ceil, inf
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from dqss.quantizers.base import Quantizer
from dqss.quantizers.shrink import AT_ONCE

if TYPE_CHECKING:
    from dqss.calibrate import TensorSummary
    from dqss.spec import QuantSpec

STEPS = 100_000
"""The share of values that may be shed at either end moves by 1 / STEPS."""

FIRST_MOVES, MOVES = 4, 64
"""How many moves are looked at together: few at first, as many a channel needs two or three, then ever more."""


@dataclass(frozen=True)
class Histogram(Quantizer):
    """Greedy: each time, the end moves whose next share of values takes up more bins."""

    def range(self, summary: TensorSummary, spec: QuantSpec) -> tuple[Tensor, Tensor]:
        bins = summary.counts.shape[1]
        shares = summary.counts.cumsum(1).double() / summary.counts.sum(1, keepdim=True)
        occupied = [row.nonzero().flatten() for row in summary.counts]
        kept = [(int(row[0]), int(row[-1])) for row in occupied]
        # Of a channel's many shares few are looked at, so that a list would cost more to make than the search takes.
        rows = [array("d", row.tobytes()) for row in shares.cpu().numpy()]
        paths = [moves(row, *ends) for row, ends in zip(rows, kept, strict=True)]
        whole, errors = list(kept), [inf] * len(kept)
        most = min(MOVES, max(1, AT_ONCE // (len(kept) << spec.bits)))
        at_once = min(FIRST_MOVES, most)
        going = set(range(len(kept)))
        while going:
            # A channel that has ended is looked at once more, in vain, so that all have equally many.
            ahead = [list(islice(path, at_once)) if i in going else [] for i, path in enumerate(paths)]
            going = {i for i in going if ahead[i]}
            padded = [(row + [kept[i]] * at_once)[:at_once] for i, row in enumerate(ahead)]
            found = self._errors(summary, spec, padded) if going else []
            for i in list(going):
                for ends, error in zip(ahead[i], found[i], strict=False):
                    if error > errors[i]:
                        going.discard(i)
                        break
                    kept[i], errors[i] = ends, error
            at_once = min(4 * at_once, most)
        for i, (error,) in enumerate(self._errors(summary, spec, [[ends] for ends in whole])):
            if error < errors[i]:
                kept[i] = whole[i]
        first, last = torch.tensor(kept, device=summary.limit.device, dtype=torch.float64).unbind(1)
        low, high = (((edge * (2 / bins) - 1) * summary.limit).float() for edge in (first, last + 1))
        return torch.maximum(summary.low, low), torch.minimum(summary.high, high)

    def _errors(self, summary: TensorSummary, spec: QuantSpec, ends: list[list[tuple[int, int]]]) -> list[list[float]]:
        """Return the squared errors where the bins from the first to the last are shared evenly among all levels.

        Args:
            summary: of C channels.
            spec: gives the number of levels.
            ends: C times K pairs of first and last bin.

        Returns:
            C times K errors; each value counts as the middle of its level, as in the observer.
        """
        first, last = torch.tensor(ends, device=summary.limit.device, dtype=torch.float64).unbind(2)
        bin_width = 2 / summary.counts.shape[1]
        levels = 2**spec.bits
        left, width = first[..., None] * bin_width - 1, (last - first + 1)[..., None] * (bin_width / levels)
        number = torch.arange(levels, device=left.device)
        middles = left + (number + 0.5) * width
        count, total, square = summary.moments_between(left + number[1:] * width)
        found: list[list[float]] = (square - 2 * middles * total + middles**2 * count).sum(2).tolist()
        return found


def moves(shares: Sequence[float], start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield the first and last bin kept, each time one of them has moved.

    Args:
        shares: per bin, the share of values in it and below.
        start: the first bin that is not empty.
        end: the last one.
    """
    left = right = 0  # in steps
    while left + right < STEPS and start < end:
        up = min(max(bisect_left(shares, (left + 1) / STEPS), start), end)
        # Steps of the upper end that move nothing are skipped, unless the lower end would go first.
        if up == start:
            right = max(right, ceil((1 - shares[end]) * STEPS) - 1)
        down = max(min(bisect_right(shares, 1 - (right + 1) / STEPS) - 1, end), start)
        if up - start > end - down:
            left += 1
            start = up
        else:
            right += 1
            if down == end:
                continue
            end = down
        yield start, end
