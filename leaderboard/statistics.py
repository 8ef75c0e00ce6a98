"""Numbers over records: gains, and how sure they are. Paired by test image, averaged over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy

from benchmarks.outcomes import image_scores
from benchmarks.records import Record

Scores = numpy.ndarray[Any, numpy.dtype[numpy.float64]]
Verdict = Literal["win", "tie", "loss", "open"]

LEVEL = 95
RESAMPLES = 10_000
BOOTSTRAP_SEED = 0
_DRAWS_AT_ONCE = 2_000_000


@dataclass(frozen=True)
class Interval:
    """Where the true difference lies, at LEVEL percent, as far as the choice of test images decides."""

    low: float
    high: float


@dataclass(frozen=True)
class Gain:
    """A difference of two scores on the same test images.

    Args:
        value: in the metric's unit of differences; above 0 is better.
        interval: None where the records hold no outcomes to pair.
        images: how many images were paired.
    """

    value: float
    interval: Interval | None
    images: int | None

    @property
    def verdict(self) -> Verdict:
        """`win` or `loss` where the interval leaves out 0, `tie` where it holds it, `open` without an interval."""
        if self.interval is None:
            return "open"
        if self.interval.low > 0:
            return "win"
        return "loss" if self.interval.high < 0 else "tie"


def bootstrap_interval(differences: Scores) -> Interval:
    """Return the percentile bootstrap interval of the mean of (N,) paired differences, the images being resampled.

    A resample matters only by how often it holds each distinct difference, and these counts are multinomial. So the
    cost grows with the distinct values, a handful for truth values, not with the images.
    """
    values, counts = numpy.unique(differences, return_counts=True)
    total = int(counts.sum())
    generator = numpy.random.default_rng(BOOTSTRAP_SEED)
    rows = max(1, _DRAWS_AT_ONCE // len(values))
    means = [
        generator.multinomial(total, counts / total, size=min(rows, RESAMPLES - start)) @ values / total
        for start in range(0, RESAMPLES, rows)
    ]
    tail = (100 - LEVEL) / 2
    low, high = numpy.percentile(numpy.concatenate(means), [tail, 100 - tail])
    return Interval(float(low), float(high))


def mean_score(records: Sequence[Record]) -> float:
    """Return the mean score of records, all ok; they are one cell's seeds."""
    scores = [record.score for record in records if record.score is not None]
    return sum(scores) / len(scores)


def paired_differences(records: Sequence[Record], others: Sequence[Record]) -> Scores | None:
    """Return (N,) per image the first records' mean score over seeds minus the others'; None where they do not pair.

    They pair where every record has outcomes of the same test images.
    """
    everyone = [*records, *others]
    first = [image_scores(record) for record in records]
    second = [image_scores(record) for record in others]
    known = [scores for scores in (*first, *second) if scores is not None]
    if len(known) < len(everyone) or len({len(scores) for scores in known}) > 1:
        return None
    if any(_images(record) != _images(everyone[0]) for record in everyone):
        return None
    mine, theirs = known[: len(first)], known[len(first) :]
    differences: Scores = numpy.mean(mine, axis=0) - numpy.mean(theirs, axis=0)
    return differences


def gain_over(records: Sequence[Record], others: Sequence[Record]) -> Gain:
    """Return what the first records' mean score gains over the others'; both are all ok and not empty."""
    value = mean_score(records) - mean_score(others)
    differences = paired_differences(records, others)
    if differences is None:
        return Gain(value, None, None)
    return Gain(value, bootstrap_interval(differences), len(differences))


def mean_gain(pairs: Sequence[tuple[Sequence[Record], Sequence[Record]]]) -> Gain:
    """Return the mean gain over several models that are tested on the same images.

    The models' errors on one image go together, so an image is resampled for all models at once.
    """
    value = sum(mean_score(mine) - mean_score(theirs) for mine, theirs in pairs) / len(pairs)
    differences = [paired_differences(mine, theirs) for mine, theirs in pairs]
    known = [one for one in differences if one is not None]
    images = [_images(mine[0]) for mine, _ in pairs]
    if len(known) < len(pairs) or len({len(one) for one in known}) > 1 or any(one != images[0] for one in images):
        return Gain(value, None, None)
    together = numpy.mean(known, axis=0)
    return Gain(value, bootstrap_interval(together), len(together))


def _images(record: Record) -> tuple[object, ...]:
    """Return what tells which test images a record's outcomes are of, in which order."""
    return record.task, record.definition.get("task"), record.ids.get("test")
