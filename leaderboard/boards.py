"""Records arranged to be compared, never across protocols: a board per model and bits, on it a row per method."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from benchmarks.records import MetricFacts, Record
from benchmarks.results import BAR, METHOD, is_dqss
from leaderboard.badges import ORDER, Badge, Origins
from leaderboard.pairs import Pairs
from leaderboard.standings import Standings
from leaderboard.statistics import Gain, PairedTest, Verdict

State = Literal["complete", "incomplete", "failed", "skipped", "missing"]
"""Only a complete row, every seed ok, has a gain and can take part in ranks."""


@dataclass(frozen=True)
class Curve:
    """How a number moved in one run.

    Args:
        name: as in the record's `curves`.
        seed: of the run; None for a method without one.
        points: (step, value), steps from 1 on; of many steps some, the first and the last among them.
    """

    name: str
    seed: int | None
    points: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Row:
    """One method on a board.

    Args:
        records: all seeds, whatever their status; none on pages of the whole.
        seeds: how many it needs: all that any method has on this board, or the one run of a method without a seed.
        score: mean over the seeds that are ok.
        gap: the score less full precision's; below 0 is what quantization costs.
        gain: over the board's bar; None where either is not complete, or where they choose among other candidates.
        test: against the bar; None without a gain, for the bar itself, and where the images do not pair.
        closed: percent of the distance from the bar to full precision that the gain covers; None without a gain, or
            where the bar is hardly below full precision.
        rank: `best`, or `tied` where the images do not tell it from the best; None otherwise, and for one alone.
        agreement: how often two seeds chose alike, in percent: the mean over layers, kinds (weight and activation) and
            pairs of seeds; None for fewer than two strategies.
        pair: the (weight, activation) quantizers where every layer of every seed has the same ones.
        seconds: of search or training; mean over the seeds that are ok, like the next three.
        curves: of DQSS's runs that are ok; empty for other methods.
        badge: the weakest of its records; None where they have none.
        ranked: complete, and with a badge that takes part in ranks; only then can it be the bar.
    """

    method: str
    state: State
    records: tuple[Record, ...]
    seeds: int
    score: float | None
    gap: float | None
    gain: Gain | None
    test: PairedTest | None
    closed: float | None
    rank: Literal["best", "tied"] | None
    agreement: float | None
    pair: tuple[str, str] | None
    seconds: float | None
    forward_passes: float | None
    size_bytes: float | None
    bops: float | None
    curves: tuple[Curve, ...]
    badge: Badge | None
    ranked: bool

    @property
    def ok(self) -> tuple[Record, ...]:
        return tuple(record for record in self.records if record.status == "ok")

    @property
    def spread(self) -> tuple[float, float] | None:
        """Lowest and highest score among seeds; None for fewer than two."""
        scores = [record.score for record in self.ok if record.score is not None]
        return (min(scores), max(scores)) if len(scores) > 1 else None

    @property
    def reasons(self) -> tuple[tuple[str, str], ...]:
        """Status and reason of the seeds that are not ok, each once."""
        told = [(record.status, record.reason or "") for record in self.records if record.status != "ok"]
        return tuple(dict.fromkeys(told))


@dataclass(frozen=True)
class Board:
    """All methods on one model at one bit-width.

    Args:
        mode: of all its methods.
        bar: the method that gains are over, best-uniform; in training the uniform method with the best score on
            search-validation among the ranked ones, None where none is ranked.
        full_precision: the lowest and highest score of the checkpoint among the records with the strongest badge; they
            should be equal.
        seeds: all that any method has here.
        rows: complete ones first, best score first; then the others in reading order.
        has_strategy: whether DQSS found a strategy here, so that the board has a page of it.
        has_pictures: whether any method's records have pictures, so that the board has a page of them.
        has_outcomes: whether any record that is ok has outcomes of images, so that the board has a file of them.
        pairs: how sure the difference of any two ranked rows is.
        origins: where its records are from, and maybe others.
    """

    model: str
    bits: str
    mode: str
    bar: str | None
    full_precision: tuple[float, float] | None
    seeds: tuple[int, ...]
    rows: tuple[Row, ...]
    has_strategy: bool
    has_pictures: bool
    has_outcomes: bool
    pairs: Pairs
    origins: Origins

    def row(self, method: str) -> Row | None:
        """Return the row of a method, None where the comparison has no such method."""
        return next((row for row in self.rows if row.method == method), None)

    @property
    def bar_row(self) -> Row | None:
        """The row of the bar, None where the comparison has no such method."""
        return None if self.bar is None else self.row(self.bar)

    @property
    def gain(self) -> Gain | None:
        """DQSS over the bar."""
        row = self.row(METHOD)
        return row.gain if row and row.ranked else None

    @property
    def unlike(self) -> bool:
        """Whether DQSS has no gain because it chose among other candidates than the bar."""
        row, bar = self.row(METHOD), self.bar_row
        return self.gain is None and row is not None and bar is not None and row.ranked and bar.ranked

    @property
    def closed(self) -> float | None:
        """The share of the bar's gap that DQSS closes, in percent."""
        row = self.row(METHOD)
        return row.closed if row and row.ranked else None

    @property
    def images(self) -> int | None:
        """How many test images the gains are of; None where there is no paired gain."""
        return next((row.gain.images for row in self.rows if row.gain and row.gain.images), None)

    @property
    def test(self) -> PairedTest | None:
        """DQSS against the bar."""
        row = self.row(METHOD)
        return row.test if row and row.ranked else None

    @property
    def oracle(self) -> Row | None:
        """The ranked uniform row with the best score on the test images, which no selection may know."""
        uniform = (row for row in self.rows if row.method == BAR or row.method.startswith("uniform-"))
        return next((row for row in uniform if row.ranked), None)

    @property
    def rival(self) -> Row | None:
        """The ranked row with the best score on the test images among all methods but DQSS and its variants."""
        rivals = (row for row in self.rows if not is_dqss(row.method))
        return next((row for row in rivals if row.ranked), None)


@dataclass(frozen=True)
class Headline:
    """DQSS against the bar of each board at one bit-width.

    Args:
        gain: mean over the models where both are ranked and have a gain; None where there is none.
        median: of the gains of these models: one where the bar fails altogether moves the mean alone.
        closed: percent of the gap to full precision of the bar: both summed over the models of the gain. None where
            that gap is hardly there.
        verdicts: model -> verdict; None where either side is not ranked.
    """

    bits: str
    gain: Gain | None
    median: float | None
    closed: float | None
    verdicts: dict[str, Verdict | None]

    def count(self, verdict: Verdict) -> int:
        """Return in how many models the verdict is this one."""
        return sum(found == verdict for found in self.verdicts.values())

    @property
    def absent(self) -> list[str]:
        """Models that cannot be judged."""
        return [model for model, verdict in self.verdicts.items() if verdict is None]


@dataclass(frozen=True)
class Place:
    """What a comparison is named by: all boards of one suite, task, mode and protocol.

    Args:
        protocol: its name, and where others of the suite share that a part of its hash.
        metric: None where no record has a score.
    """

    suite: str
    suite_version: int
    task: str
    mode: str
    protocol: str
    metric: MetricFacts | None


@dataclass(frozen=True)
class Comparison(Place):
    """What may be ranked together.

    Args:
        seeds: all that any board has.
        records: of all boards; on pages of the whole the first alone, which tells what the protocol fixes.
        boards: of every model at every bit-width, whether or not there is a record.
        standings: ranks of the methods over all boards; None where no row is ranked.
    """

    models: tuple[str, ...]
    bits: tuple[str, ...]
    seeds: tuple[int, ...]
    records: tuple[Record, ...]
    boards: tuple[Board, ...]
    headlines: tuple[Headline, ...]
    standings: Standings | None

    @property
    def badge(self) -> Badge | None:
        """The strongest of its rows; None where they have none."""
        badges = (row.badge for board in self.boards for row in board.rows if row.badge)
        return min(badges, key=ORDER.index, default=None)


def bits_order(bits: str) -> tuple[int, str]:
    """Sort bit-widths by what they leave: fewest bits first, where the choice of algorithm matters most."""
    return sum(int(digits) for digits in re.findall(r"[0-9]+", bits)), bits


def natural_order(name: str) -> list[tuple[int, str]]:
    """Sort names as people do.

    >>> sorted(["resnet20", "resnet8"], key=natural_order)
    ['resnet8', 'resnet20']
    """
    return [(int(part) if part.isascii() and part.isdigit() else -1, part) for part in re.split(r"([0-9]+)", name)]


def mean(values: Sequence[float | None]) -> float | None:
    """Return the mean of the values that are there."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
