"""Whether a record's score follows from its own outcomes, one per test image. Imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy

if TYPE_CHECKING:
    from benchmarks.records import Record

# Outcomes are at best float32, so their mean meets the recorded score only to about this share of it.
SCORE_TOLERANCE = 1e-4


def fault_of(record: Record) -> str | None:
    """Return why the result of a well-formed record cannot count, or None."""
    if record.status != "ok":
        if record.score is not None:
            return f"it is {record.status} and yet has a score."
        return None if record.reason else f"it is {record.status} without a reason."
    if record.score is None or record.metric is None:
        return "it is ok but has no score or no metric."
    try:
        mean = _mean_score(record)
    except ValueError as error:
        return f"its outcomes cannot be unpacked ({str(error).removeprefix('outcomes: ').rstrip('.')})."
    if mean is None:
        return None
    # Written so that a mean that is not a number is a fault too.
    if not abs(mean - record.score) <= SCORE_TOLERANCE * max(1.0, abs(record.score)):
        return f"its score {record.score:g} is not the mean of its outcomes, {mean:g}."
    return None


def image_scores(record: Record) -> numpy.ndarray[Any, numpy.dtype[numpy.float64]] | None:
    """Return (N,) one score per test image in the unit of the metric (a hit counts 100 %); None without outcomes.

    Raises:
        ValueError: the outcomes are damaged.
    """
    values = outcomes_of(record)
    if values is None:
        return None
    return values.astype(numpy.float64) * (100.0 if values.dtype == numpy.bool_ else 1.0)


def outcomes_of(record: Record) -> numpy.ndarray[Any, Any] | None:
    """Return (N,) one outcome per test image, truth values where they are hits; None without outcomes.

    Raises:
        ValueError: the outcomes are damaged.
    """
    if record.outcomes is None:
        return None
    if record.outcomes.count < 1:
        raise ValueError(f"outcomes: {record.outcomes.count} is no number of images.")
    return record.outcomes.unpack()


def _mean_score(record: Record) -> float | None:
    values = outcomes_of(record)
    if values is None:
        return None
    if values.dtype == numpy.bool_:
        # Counting takes a tenth of the time of adding numbers.
        return 100 * int(numpy.count_nonzero(values)) / len(values)
    return float(values.astype(numpy.float64).mean())
