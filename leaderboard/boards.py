"""Records arranged to be compared, never across protocols: a board per model and bits, on it a row per method."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, groupby
from typing import Literal

from benchmarks.records import MetricFacts, Record
from benchmarks.results import BAR, METHOD, bar_of, gap_to_full_precision, is_dqss, reading_place, share_closed
from leaderboard.pairs import Pairs, pairs_of
from leaderboard.significance import holm
from leaderboard.standings import Standings, Tally
from leaderboard.statistics import Gain, PairedTest, Verdict, gain_over, mean_gain, paired_test, sample_of

State = Literal["complete", "incomplete", "failed", "skipped", "missing"]
"""Only a complete row, every seed ok, has a gain and takes part in ranks."""


@dataclass(frozen=True)
class Row:
    """One method on a board.

    Args:
        records: all seeds, whatever their status.
        seeds: how many it needs: all that any method has on this board, or the one run of a method without a seed.
        score: mean over the seeds that are ok.
        gap: the score less full precision's; below 0 is what quantization costs.
        gain: over the board's bar; None where either is not complete.
        test: against the bar; None without a gain, for the bar itself, and where the images do not pair.
        closed: percent of the distance from the bar to full precision that the gain covers; None without a gain, or
            where the bar is hardly below full precision.
        rank: `best`, or `tied` where the images do not tell it from the best; None otherwise.
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

    @property
    def seconds(self) -> float | None:
        return _mean([record.search_seconds for record in self.ok])

    @property
    def forward_passes(self) -> float | None:
        return _mean([record.forward_passes for record in self.ok])

    @property
    def size_bytes(self) -> float | None:
        return _mean([record.size_bytes for record in self.ok])

    @property
    def bops(self) -> float | None:
        return _mean([record.bops for record in self.ok])

    @property
    def agreement(self) -> float | None:
        """How often two seeds chose alike, in percent; None for fewer than two strategies.

        It is the mean over layers, kinds (weight and activation) and pairs of seeds.
        """
        strategies = [record.strategy for record in self.ok if record.strategy]
        alike = [
            getattr(first[name], kind) == getattr(second[name], kind) if name in first and name in second else False
            for first, second in combinations(strategies, 2)
            for name in first.keys() | second.keys()
            for kind in ("weight", "activation")
        ]
        return 100 * sum(alike) / len(alike) if alike else None

    @property
    def pair(self) -> tuple[str, str] | None:
        """The (weight, activation) quantizers where every layer of every seed has the same ones."""
        choices = [choice for record in self.ok for choice in (record.strategy or {}).values()]
        pairs = {(choice.weight, choice.activation) for choice in choices}
        return pairs.pop() if len(pairs) == 1 else None


@dataclass(frozen=True)
class Board:
    """All methods on one model at one bit-width.

    Args:
        mode: of all its methods.
        bar: the method that gains are over, best-uniform; in training the uniform method with the best score on
            search-validation among the complete ones, None where none is complete.
        full_precision: the lowest and highest score of the checkpoint among the records; they should be equal.
        seeds: all that any method has here.
        rows: complete ones first, best score first; then the others in reading order.
        pairs: how sure the difference of any two complete rows is.
    """

    model: str
    bits: str
    mode: str
    bar: str | None
    full_precision: tuple[float, float] | None
    seeds: tuple[int, ...]
    rows: tuple[Row, ...]
    pairs: Pairs

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
        return row.gain if row else None

    @property
    def closed(self) -> float | None:
        """The share of the bar's gap that DQSS closes, in percent."""
        row = self.row(METHOD)
        return row.closed if row else None

    @property
    def images(self) -> int | None:
        """How many test images the gains are of; None where there is no paired gain."""
        return next((row.gain.images for row in self.rows if row.gain and row.gain.images), None)

    @property
    def has_strategy(self) -> bool:
        """Whether DQSS found a strategy here."""
        row = self.row(METHOD)
        return row is not None and any(record.strategy for record in row.ok)

    @property
    def has_pictures(self) -> bool:
        """Whether any record has pictures."""
        return any(record.pictures for row in self.rows for record in row.ok)

    @property
    def test(self) -> PairedTest | None:
        """DQSS against the bar."""
        row = self.row(METHOD)
        return row.test if row else None

    @property
    def oracle(self) -> Row | None:
        """The complete uniform row with the best score on the test images, which no selection may know."""
        uniform = (row for row in self.rows if row.method == BAR or row.method.startswith("uniform-"))
        return next((row for row in uniform if row.state == "complete"), None)

    @property
    def rival(self) -> Row | None:
        """The complete row with the best score on the test images among all methods but DQSS and its variants."""
        rivals = (row for row in self.rows if not is_dqss(row.method))
        return next((row for row in rivals if row.state == "complete"), None)


@dataclass(frozen=True)
class Headline:
    """DQSS against the bar of each board at one bit-width.

    Args:
        gain: mean over the models where both are complete; None where there is none.
        closed: percent of the gap to full precision, the mean over the models where there is one to close.
        verdicts: model -> verdict; None where either side is not complete.
    """

    bits: str
    gain: Gain | None
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
class Comparison:
    """What may be ranked together: one suite, task, mode and protocol.

    Args:
        seeds: all that any board has.
        standings: ranks of the methods over all boards; None where no row is complete.
    """

    suite: str
    suite_version: int
    task: str
    mode: str
    protocol: str
    metric: MetricFacts | None
    models: tuple[str, ...]
    bits: tuple[str, ...]
    seeds: tuple[int, ...]
    records: tuple[Record, ...]
    boards: tuple[Board, ...]
    headlines: tuple[Headline, ...]
    standings: Standings | None


def compare(records: Iterable[Record]) -> tuple[Comparison, ...]:
    """Return every comparison that the records make, the largest first."""
    groups: dict[tuple[str, str, str, str], list[Record]] = {}
    for record in records:
        groups.setdefault((record.suite, record.task, record.mode, record.protocol), []).append(record)
    ordered = sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))
    return tuple(_comparison(group) for _, group in ordered)


def bits_order(bits: str) -> tuple[int, str]:
    """Sort bit-widths by what they leave: fewest bits first, where the choice of algorithm matters most."""
    return sum(int(digits) for digits in re.findall(r"[0-9]+", bits)), bits


def natural_order(name: str) -> list[tuple[int, str]]:
    """Sort names as people do.

    >>> sorted(["resnet20", "resnet8"], key=natural_order)
    ['resnet8', 'resnet20']
    """
    return [(int(part) if part.isascii() and part.isdigit() else -1, part) for part in re.split(r"([0-9]+)", name)]


def _comparison(records: list[Record]) -> Comparison:
    models = tuple(sorted({record.model for record in records}, key=natural_order))
    widths = tuple(sorted({record.bits for record in records}, key=bits_order))
    methods = sorted({record.method for record in records})
    # The whole grid, so that a cell without any record is seen to be missing.
    grid: dict[tuple[str, str], list[Record]] = {(model, bits): [] for bits in widths for model in models}
    for record in records:
        grid[record.model, record.bits].append(record)
    first = records[0]
    tally = Tally(methods)
    boards = _corrected([_board(*names, first.mode, here, methods, tally) for names, here in grid.items()])
    return Comparison(
        suite=first.suite,
        suite_version=first.suite_version,
        task=first.task,
        mode=first.mode,
        protocol=first.protocol,
        metric=next((record.metric for record in records if record.metric), None),
        models=models,
        bits=widths,
        seeds=tuple(sorted({record.seed for record in records if record.seed is not None})),
        records=tuple(records),
        boards=boards,
        headlines=tuple(_headline(bits, [board for board in boards if board.bits == bits]) for bits in widths),
        standings=tally.standings(_wins(boards)),
    )


def _board(model: str, bits: str, mode: str, here: list[Record], methods: list[str], tally: Tally) -> Board:
    """Return a board, and count its complete rows in a tally."""
    measured = [record.full_precision_score for record in here if record.full_precision_score is not None]
    runs: dict[str, list[Record]] = {method: [] for method in methods}
    for record in here:
        runs[record.method].append(record)
    # More seeds for one board must not make the others look unfinished.
    asked = tuple(sorted({record.seed for record in here if record.seed is not None}))
    seeds = {method: _expected_seeds(group, asked) for method, group in runs.items()}
    states = {method: _state(group, seeds[method]) for method, group in runs.items()}
    samples = {method: sample_of(group) for method, group in runs.items() if states[method] == "complete"}
    tally.add(samples)
    leader = max(samples, key=lambda method: (samples[method].score, method), default=None)
    bar = bar_of(mode, {method: runs[method] for method in samples})
    bars = None if bar is None else samples.get(bar)

    def row(method: str) -> Row:
        group, sample = runs[method], samples.get(method)
        gain = None if sample is None or bars is None else gain_over(sample, bars)
        test = None if sample is None or bars is None or method == bar else paired_test(sample, bars)
        rank: Literal["best", "tied"] | None = None
        if sample is not None and leader is not None:
            best = samples[leader]
            apart = gain if gain is not None and best is bars else gain_over(sample, best)
            rank = "best" if apart.value == 0 else "tied" if apart.verdict == "tie" else None
        score = _mean([record.score for record in group])
        closed = None if gain is None or bar is None or method == bar else share_closed(gain.value, _gaps(runs[bar]))
        facts = (score, _gaps(group), gain, test, closed, rank)
        return Row(method, states[method], tuple(group), seeds[method], *facts)

    rows = sorted((row(method) for method in methods), key=_row_order)
    full_precision = (min(measured), max(measured)) if measured else None
    return Board(model, bits, mode, bar, full_precision, asked, tuple(rows), pairs_of(samples))


def _corrected(boards: Sequence[Board]) -> tuple[Board, ...]:
    """Return boards with the tests of each method corrected for how many cells it is tested in."""
    tests = [(row.method, i, row.test) for i, board in enumerate(boards) for row in board.rows if row.test]
    tests.sort(key=lambda item: item[:2])
    found: dict[tuple[str, int], PairedTest] = {}
    for _, family in groupby(tests, key=lambda item: item[0]):
        members = list(family)
        corrected = holm([test.p for _, _, test in members])
        for (method, i, test), p in zip(members, corrected, strict=True):
            found[method, i] = replace(test, holm=p)
    return tuple(
        replace(board, rows=tuple(replace(row, test=found.get((row.method, i))) for row in board.rows))
        for i, board in enumerate(boards)
    )


def _wins(boards: Sequence[Board]) -> dict[str, int]:
    """Return in how many cells each method won over the bar; without one that is the bar of all boards."""
    wins: dict[str, int] = {}
    for board in boards:
        for row in board.rows:
            wins[row.method] = wins.get(row.method, 0) + (row.gain is not None and row.gain.verdict == "win")
    bars = {board.bar for board in boards if board.bar is not None}
    return {method: count for method, count in wins.items() if bars != {method}}


def _expected_seeds(group: Sequence[Record], asked: Sequence[int]) -> int:
    own = {record.seed for record in group}
    return 1 if own <= {None} else len(own.union(asked))


def _gaps(group: Sequence[Record]) -> float | None:
    return _mean([gap_to_full_precision(record) for record in group])


def _state(group: Sequence[Record], seeds: int) -> State:
    statuses = [record.status for record in group]
    done = statuses.count("ok")
    if done:
        return "complete" if done == seeds else "incomplete"
    return "failed" if "failed" in statuses else "skipped" if statuses else "missing"


def _row_order(row: Row) -> tuple[bool, float, tuple[int, int, str]]:
    if row.state != "complete" or row.score is None:
        return True, 0.0, reading_place(row.method)
    return False, -row.score, reading_place(row.method)


def _headline(bits: str, boards: list[Board]) -> Headline:
    pairs = []
    for board in boards:
        mine, theirs = board.row(METHOD), board.bar_row
        if mine and theirs and mine.gain is not None:
            pairs.append((sample_of(mine.ok), sample_of(theirs.ok)))
    verdicts = {board.model: board.gain.verdict if board.gain else None for board in boards}
    closed = _mean([board.closed for board in boards])
    return Headline(bits, mean_gain(pairs) if pairs else None, closed, verdicts)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
