"""Numbers over records: gains, and how sure they are. Paired by test image, averaged over seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy
from scipy.fft import next_fast_len

from benchmarks.outcomes import outcomes_of
from benchmarks.records import Record
from leaderboard.significance import mcnemar, wilcoxon

Scores = numpy.ndarray[Any, numpy.dtype[numpy.float64]]
Steps = numpy.ndarray[Any, numpy.dtype[numpy.signedinteger[Any]]]
Verdict = Literal["win", "tie", "loss", "open"]

LEVEL = 95
# Scores that are no hits are rounded to this part of their spread: far finer than any interval is sure.
_GRID = 32
# The most units in a standard deviation of a sum, lest the transform be long for nothing.
_FINEST = 20_000
# What differs by less differs by rounding alone.
_EQUAL = 1e-9


@dataclass(frozen=True)
class Interval:
    """Where the true difference lies, at LEVEL percent, as far as the choice of test images and of seeds decides."""

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


@dataclass(frozen=True)
class PairedTest:
    """Whether a difference on the same test images may be chance, the seeds being those that were run.

    Args:
        name: McNemar's test of hits, Wilcoxon's signed-rank test of other scores.
        p: two-sided.
        holm: the same, corrected for all cells of one method in a comparison; None until that is done.
    """

    name: Literal["McNemar", "Wilcoxon"]
    p: float
    holm: float | None = None


@dataclass(frozen=True)
class Sample:
    """What one cell's records, all ok, say of a method.

    Args:
        score: the mean over the seeds.
        seeds: each seed's score.
        outcomes: (N,) one score per test image, the mean over the seeds; None where they have none in common.
        images: what tells which test images these are, in which order.
        hits: whether a seed's outcomes are 0 or 100, not scores of any size.
    """

    score: float
    seeds: tuple[float, ...]
    outcomes: Scores | None
    images: tuple[object, ...]
    hits: bool

    @cached_property
    def totals(self) -> Steps | None:
        """(N,) how many seeds hit each image; None where outcomes are no hits."""
        if self.outcomes is None or not self.hits:
            return None
        return numpy.rint(self.outcomes * (len(self.seeds) / 100)).astype(numpy.int32)

    def pairs_with(self, other: Sample) -> bool:
        """Return whether both have outcomes, of the same kind and of the same images."""
        if self.outcomes is None or other.outcomes is None:
            return False
        alike = (self.images, self.hits) == (other.images, other.hits)
        return alike and len(self.outcomes) == len(other.outcomes)


def sample_of(records: Sequence[Record]) -> Sample:
    """Return what the records of one method in one cell say; they are all ok and not empty."""
    seeds = tuple(record.score for record in records if record.score is not None)
    images = _images(records[0])
    hits = all(record.outcomes is not None and record.outcomes.kind == "bits" for record in records)
    known = [values for record in records if (values := outcomes_of(record)) is not None]
    together = len(known) == len(records) and len({(len(values), values.dtype) for values in known}) == 1
    outcomes: Scores | None = None
    if together and all(_images(record) == images for record in records):
        total: Scores = numpy.stack(known).sum(axis=0, dtype=numpy.float64)
        outcomes = total * (100.0 if hits else 1.0) / len(known)
    return Sample(sum(seeds) / len(seeds), seeds, outcomes, images, hits)


def gain_over(mine: Sample, other: Sample) -> Gain:
    """Return what one method's mean score gains over another's."""
    value = mine.score - other.score
    if mine.outcomes is None or other.outcomes is None or not mine.pairs_with(other):
        return Gain(value, None, None)
    steps, seeds = _steps(mine, other), [mine.seeds, other.seeds]
    if steps is None:
        interval = bootstrap_interval(mine.outcomes - other.outcomes, None, seeds)
    else:
        interval = _interval_of_steps(steps, _unit([mine, other]), seeds)
    return Gain(value, interval, len(mine.outcomes))


def paired_test(mine: Sample, other: Sample) -> PairedTest | None:
    """Return the test of two methods in one cell; None where their images do not pair."""
    if mine.outcomes is None or other.outcomes is None or not mine.pairs_with(other):
        return None
    steps = _steps(mine, other)
    if steps is None:
        return PairedTest("Wilcoxon", wilcoxon(mine.outcomes - other.outcomes))
    return PairedTest("McNemar", mcnemar(steps))


def mean_gain(pairs: Sequence[tuple[Sample, Sample]]) -> Gain:
    """Return the mean gain over several models that are tested on the same images.

    The models' errors on one image go together, so an image is resampled for all models at once; their seeds apart.
    """
    value = sum(mine.score - other.score for mine, other in pairs) / len(pairs)
    first = pairs[0][0]
    differences = [
        mine.outcomes - other.outcomes
        for mine, other in pairs
        if mine.outcomes is not None and other.outcomes is not None and mine.pairs_with(other)
        if mine.pairs_with(first)
    ]
    if len(differences) < len(pairs):
        return Gain(value, None, None)
    together: Scores = numpy.mean(differences, axis=0)
    both = [sample for pair in pairs for sample in pair]
    unit = _unit(both) / len(pairs) if all(sample.hits for sample in both) else None
    shares = [tuple(score / len(pairs) for score in sample.seeds) for sample in both]
    interval = bootstrap_interval(together, unit, shares)
    return Gain(value, interval, len(together))


def bootstrap_interval(
    differences: Scores, unit: float | None = None, seeds: Sequence[Sequence[float]] = ()
) -> Interval:
    """Return the percentile bootstrap interval of the mean of paired differences, images and seeds being resampled.

    Nothing is drawn. The differences are whole steps of a unit, so the sum of a resample is distributed as the N-fold
    convolution of theirs, and one Fourier transform gives it: Efron's bootstrap with infinitely many resamples.
    To it is added, likewise, what the mean over resampled seeds departs from the mean over all, widened by S / (S - 1)
    in variance, as S seeds spread less around their own mean than around the true one.

    Args:
        differences: (N,) one per test image, the mean over seeds.
        unit: what all differences are whole multiples of; None rounds them to a 32nd of the standard deviation.
        seeds: for each method the score of each seed. One seed adds nothing: how far another would differ is unknown.
    """
    if unit is not None:
        return _interval_of_steps(numpy.rint(differences / unit).astype(numpy.int64), unit, seeds)
    images = len(differences)
    mean = float(differences.sum()) / images
    around = differences - mean
    departures, spread = _departures(seeds), float((around * around).sum())
    deviation = _deviation(images, spread, departures)
    if deviation < _EQUAL * images:
        return Interval(round(mean, 9), round(mean, 9))
    unit = deviation / math.sqrt(images) / _GRID
    draws = _Draws.of(numpy.rint(around / unit).astype(numpy.int64), images)
    return _interval(draws, mean, unit, departures, deviation)


def _interval_of_steps(steps: Steps, unit: float, seeds: Sequence[Sequence[float]]) -> Interval:
    """Return the interval of the mean of differences that are whole steps of a unit."""
    images = len(steps)
    draws, departures = _Draws.of(steps, images), _departures(seeds)
    mean = draws.total / images
    around = numpy.arange(draws.low, draws.high + 1) - mean
    spread = images * unit**2 * float((draws.chances * around * around).sum())
    deviation = _deviation(images, spread, departures)
    if deviation < _EQUAL * images:
        return Interval(round(mean * unit, 9), round(mean * unit, 9))
    if deviation / unit > _FINEST:
        return bootstrap_interval(steps.astype(numpy.float64) * unit, None, seeds)
    return _interval(draws, mean * unit, unit, departures, deviation)


def _interval(
    draws: _Draws, mean: float, unit: float, departures: Sequence[Sequence[float]], deviation: float
) -> Interval:
    """Return the interval of a mean whose resamples are these draws and those of the departures of seeds.

    Args:
        draws: of steps, one for each image.
        mean: what the interval is around.
        unit: of a step.
        departures: of each method whose seeds differ; as of `_departures`.
        deviation: of the sum over images.
    """
    images = draws.times
    parts = [draws]
    parts += [_Draws.of(numpy.array([round(one * images / unit) for one in part]), len(part)) for part in departures]
    length = _length(parts, deviation / unit)
    # Around the middle, the sum of the differences as they are; draws are counted from the smallest of each part.
    shift = (length // 2 - draws.total + sum(part.times * part.low for part in parts)) % length
    chances = _convolved(parts, length)
    below = numpy.cumsum(numpy.concatenate((chances[length - shift :], chances[: length - shift])))
    tail = (100 - LEVEL) / 200
    ends = numpy.searchsorted(below, [tail, 1 - tail]) - length // 2
    low, high = (mean + float(end) * unit / images for end in ends)
    return Interval(round(low, 9), round(high, 9))


def _deviation(images: int, spread: float, departures: Sequence[Sequence[float]]) -> float:
    """Return the standard deviation of the sum over images of a resample.

    Args:
        spread: sum of squared differences from their mean.
    """
    return math.sqrt(spread + sum((images * one) ** 2 for part in departures for one in part))


@dataclass(frozen=True)
class _Draws:
    """Independent draws of whole numbers, each of those there are as likely as any other.

    Args:
        low: the smallest number.
        chances: of each number from the smallest to the largest.
        times: how many draws.
        total: the sum of the numbers.
    """

    low: int
    chances: Scores
    times: int
    total: int

    @classmethod
    def of(cls, numbers: Steps, times: int) -> _Draws:
        low = int(numbers.min())
        counts = numpy.bincount(numbers - low)
        total = low * len(numbers) + int((counts * numpy.arange(len(counts))).sum())
        return cls(low, counts / len(numbers), times, total)

    @property
    def high(self) -> int:
        return self.low + len(self.chances) - 1


def _departures(seeds: Sequence[Sequence[float]]) -> list[list[float]]:
    """Return what each seed adds to a mean over resampled seeds when it is drawn once, for methods whose seeds differ.

    Args:
        seeds: for each method the score of each seed.
    """
    found = []
    for scores in seeds:
        if len(set(scores)) > 1:
            count, mean = len(scores), sum(scores) / len(scores)
            found.append([(score - mean) / count * math.sqrt(count / (count - 1)) for score in scores])
    return found


def _length(parts: Sequence[_Draws], deviation: float) -> int:
    """Return a length that the sum of the draws stays within, but for chances below any that matters."""
    reach = sum(part.times * (part.high - part.low) for part in parts)
    largest = max(abs(end) for part in parts for end in (part.low, part.high))
    return int(next_fast_len(2 * math.ceil(min(reach, 8 * deviation + 4 * largest)) + 8, real=True))


def _convolved(parts: Sequence[_Draws], length: int) -> Scores:
    """Return (length,) the distribution of a sum of draws, each counted from its smallest, modulo its length."""
    product = numpy.ones(length // 2 + 1, numpy.complex128)
    for part in parts:
        transform, times = numpy.fft.rfft(part.chances, length), part.times
        # By squaring: numpy's power of complex numbers takes ten times as long.
        while times:
            if times % 2:
                product *= transform
            times //= 2
            if times:
                transform = transform * transform
    return numpy.fft.irfft(product, length)


def _unit(samples: Sequence[Sample]) -> float:
    """Return what differences of means over seeds are multiples of, for samples of hits."""
    return 100 / math.lcm(*(len(sample.seeds) for sample in samples))


def _steps(mine: Sample, other: Sample) -> Steps | None:
    """Return by how many units two samples differ on each image; None where they are not of hits."""
    if mine.totals is None or other.totals is None:
        return None
    common = math.lcm(len(mine.seeds), len(other.seeds))
    found: Steps = mine.totals * (common // len(mine.seeds)) - other.totals * (common // len(other.seeds))
    return found


def _images(record: Record) -> tuple[object, ...]:
    return record.task, record.definition.get("task"), record.ids.get("test")
