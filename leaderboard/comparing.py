"""Boards worked out, one at a time, from all records of theirs; and what is known only when all of a comparison are."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, groupby
from statistics import fmean, median
from typing import Literal

from benchmarks.records import Record
from benchmarks.results import METHOD, bar_of, gap_to_full_precision, reading_place, share_closed
from leaderboard.badges import ORDER, Badge, Judge, Origins, badge_of, counted_among
from leaderboard.boards import Board, Comparison, Curve, Headline, Place, Row, State, bits_order, mean, natural_order
from leaderboard.load import ComparisonName, comparison_of, protocols_of
from leaderboard.pairs import pairs_of
from leaderboard.significance import holm
from leaderboard.standings import Cell, Tally, cell_of
from leaderboard.statistics import PairedTest, Sample, gain_over, mean_gain, paired_test, sample_of

POINTS = 120
"""The most that a curve keeps."""
KINDS = ("weight", "activation")


@dataclass(frozen=True)
class Worked:
    """A board, and what it adds to its comparison.

    Args:
        records: of the board, in their order.
        cell: its ranked rows as they are counted in the standings; None where there is none.
        pair: DQSS and the bar where DQSS is ranked and has a gain, for the headline.
    """

    place: Place
    board: Board
    records: tuple[Record, ...]
    cell: Cell | None
    pair: tuple[Sample, Sample] | None


NO_ORIGINS: Origins = {}


def compare(records: Iterable[Record], origins: Origins = NO_ORIGINS) -> tuple[Comparison, ...]:
    """Return every comparison that the records make: those with the strongest badge first, then the largest.

    Args:
        origins: where records are from, which decides whose rows are ranked.
    """
    groups: dict[ComparisonName, list[Record]] = {}
    for record in records:
        groups.setdefault(comparison_of(record), []).append(record)
    protocols = protocols_of(groups)
    return in_order(_comparison(group, origins, protocols[name]) for name, group in groups.items())


def in_order(comparisons: Iterable[Comparison]) -> tuple[Comparison, ...]:
    """Return comparisons in the order in which pages show them: the strongest badge first, then the largest."""

    def place(one: Comparison) -> tuple[int, int, tuple[str, ...]]:
        return ORDER.index(one.badge), -len(one.boards), (one.suite, one.task, one.mode, one.protocol)

    return tuple(sorted(comparisons, key=place))


def work_out(records: Sequence[Record], methods: Sequence[str], judge: Judge, protocol: str) -> Worked:
    """Return the board that these records make.

    Args:
        records: all those of one model at one bit-width in one comparison; at least one.
        methods: all that the comparison has, in the order of the alphabet.
        judge: of the comparison.
        protocol: what pages call that of the comparison.
    """
    first = records[0]
    metric = next((record.metric for record in records if record.metric), None)
    place = Place(first.suite, first.suite_version, first.task, first.mode, protocol, metric)
    runs: dict[str, list[Record]] = {method: [] for method in methods}
    for record in records:
        runs[record.method].append(record)
    # More seeds for one board must not make the others look unfinished.
    asked = tuple(sorted({record.seed for record in records if record.seed is not None}))
    complete = [method for method, group in runs.items() if _state(group, _expected_seeds(group, asked)) == "complete"]
    known = {method: sample_of(runs[method]) for method in complete}
    badges = {method: judge.badge(group) for method, group in runs.items()}
    samples = {method: sample for method, sample in known.items() if badges[method] in judge.counted}
    bar = bar_of(first.mode, {method: runs[method] for method in samples})
    # Of one alone nobody knows whether it is the best.
    leader = max(samples, key=lambda method: (samples[method].score, method)) if len(samples) > 1 else None
    told = ((method, known.get(method), badges[method]) for method in methods)
    rows = tuple(sorted((_row(*one, runs, asked, samples, bar, leader) for one in told), key=_row_order))
    measured = [r.full_precision_score for r in judge.strongest(records) if r.full_precision_score is not None]
    board = Board(
        model=first.model,
        bits=first.bits,
        mode=first.mode,
        bar=bar,
        full_precision=(min(measured), max(measured)) if measured else None,
        seeds=asked,
        rows=rows,
        has_strategy=any(record.status == "ok" and record.strategy for record in runs.get(METHOD, [])),
        has_pictures=any(record.status == "ok" and record.pictures for record in records),
        has_outcomes=any(record.status == "ok" and record.outcomes for record in records),
        pairs=pairs_of(samples),
        origins=judge.origins,
    )
    pair = (samples[METHOD], samples[bar]) if bar is not None and board.gain is not None else None
    return Worked(place, board, tuple(records), cell_of(samples), pair)


def put_together(
    worked: Sequence[Worked],
    models: Iterable[str],
    widths: Iterable[str],
    methods: Sequence[str],
    counted: frozenset[Badge | None],
) -> Comparison:
    """Return the comparison that boards make.

    Args:
        worked: the boards that have records; at least one.
        models: all that there should be, likewise the other two: what no record is of is seen to be missing.
        methods: in the order of the alphabet, as the boards were given them.
        counted: as the judge of the boards has it.
    """
    place = next((one.place for one in worked if one.place.metric), worked[0].place)
    models = tuple(sorted(models, key=natural_order))
    widths = tuple(sorted(widths, key=bits_order))
    there = {(one.board.model, one.board.bits): one for one in worked}
    grid = {(model, bits): there.get((model, bits)) for bits in widths for model in models}
    rows = (row for one in worked for row in one.board.rows)
    tally = Tally(sorted({row.method for row in rows if row.records and row.badge in counted}))
    for one in grid.values():
        if one is not None and one.cell is not None:
            tally.add(one.cell)
    boards = _corrected(
        [_missing(*names, place.mode, methods) if one is None else one.board for names, one in grid.items()]
    )
    pairs = {names: one.pair for names, one in grid.items() if one is not None and one.pair is not None}
    return Comparison(
        suite=place.suite,
        suite_version=place.suite_version,
        task=place.task,
        mode=place.mode,
        protocol=place.protocol,
        metric=place.metric,
        models=models,
        bits=widths,
        seeds=tuple(sorted({seed for board in boards for seed in board.seeds})),
        records=tuple(record for one in worked for record in one.records),
        boards=boards,
        headlines=tuple(_headline(bits, boards, pairs) for bits in widths),
        standings=tally.standings(_wins(boards)),
    )


def _comparison(records: Sequence[Record], origins: Origins, protocol: str) -> Comparison:
    judge = Judge(origins, counted_among(badge_of(record, origins) for record in records))
    methods = sorted({record.method for record in records})
    groups: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        groups.setdefault((record.model, record.bits), []).append(record)
    models, widths = ({names[i] for names in groups} for i in (0, 1))
    worked = [work_out(group, methods, judge, protocol) for group in groups.values()]
    return put_together(worked, models, widths, methods, judge.counted)


def _row(
    method: str,
    sample: Sample | None,
    badge: Badge | None,
    runs: dict[str, list[Record]],
    asked: Sequence[int],
    samples: dict[str, Sample],
    bar: str | None,
    leader: str | None,
) -> Row:
    """Return the row of a method.

    Args:
        sample: None where it is not complete.
        runs: method -> its records on the board.
        asked: the seeds that any method has on the board.
        samples: of the methods that are ranked.
        leader: the one with the best score of these; None where there are fewer than two.
    """
    group = runs[method]
    bars = None if bar is None or not same_candidates(group, runs.get(bar, [])) else samples.get(bar)
    gain = None if sample is None or bars is None else gain_over(sample, bars)
    test = None if sample is None or bars is None or method == bar else paired_test(sample, bars)
    rank: Literal["best", "tied"] | None = None
    if sample is not None and leader is not None and method in samples:
        best = samples[leader]
        apart = gain if gain is not None and best is bars else gain_over(sample, best)
        rank = "best" if apart.value == 0 else "tied" if apart.verdict == "tie" else None
    closed = None if gain is None or bar is None or method == bar else share_closed(gain.value, _gaps(runs[bar]))
    seeds = _expected_seeds(group, asked)
    ok = [record for record in group if record.status == "ok"]
    return Row(
        method=method,
        state=_state(group, seeds),
        records=tuple(group),
        seeds=seeds,
        score=mean([record.score for record in group]),
        gap=_gaps(group),
        gain=gain,
        test=test,
        closed=closed,
        rank=rank,
        agreement=_agreement(ok),
        pair=_pair(ok),
        seconds=mean([record.search_seconds for record in ok]),
        forward_passes=mean([record.forward_passes for record in ok]),
        size_bytes=mean([record.size_bytes for record in ok]),
        bops=mean([record.bops for record in ok]),
        curves=tuple(_curves(ok)) if method == METHOD else (),
        badge=badge,
        ranked=method in samples,
    )


def same_candidates(mine: Sequence[Record], bars: Sequence[Record]) -> bool:
    """Return whether a method and the bar choose among the same candidates, in whatever order they are listed.

    A uniform method has one by nature, as have all the bars of training: they are compared whatever others may choose.

    Args:
        mine: records of one variant of a method, likewise the other; either may be empty.
    """
    if not mine or not bars or mine[0].mode != "ptq" or mine[0].method.startswith("uniform-"):
        return True
    first, second = (group[0].definition.get("quantizers") for group in (mine, bars))
    return first == second or _in_any_order(first) == _in_any_order(second)


def _in_any_order(quantizers: object) -> list[list[str]]:
    match quantizers:
        case {"weight": [*weight], "activation": [*activation]}:
            return [sorted(json.dumps(one, sort_keys=True) for one in kind) for kind in (weight, activation)]
        case _:
            return [[json.dumps(quantizers, sort_keys=True)]]


def _curves(ok: Sequence[Record]) -> Iterator[Curve]:
    for record in ok:
        for name, values in record.curves.items():
            yield Curve(name, record.seed, tuple((i + 1, values[i]) for i in spaced(len(values), POINTS)))


def spaced(count: int, most: int) -> list[int]:
    """Return at most so many of the positions 0 to count - 1, evenly spaced, the first and the last among them.

    >>> spaced(3, 4), spaced(7, 4)
    ([0, 1, 2], [0, 2, 4, 6])
    """
    return list(range(count)) if count <= most else [round(i * (count - 1) / (most - 1)) for i in range(most)]


def _missing(model: str, bits: str, mode: str, methods: Sequence[str]) -> Board:
    """Return a board without any record."""
    none = [_row(method, None, None, {method: []}, (), {}, None, None) for method in methods]
    rows = tuple(sorted(none, key=_row_order))
    return Board(
        model,
        bits,
        mode,
        bar_of(mode, {}),
        None,
        (),
        rows,
        has_strategy=False,
        has_pictures=False,
        has_outcomes=False,
        pairs=pairs_of({}),
        origins=NO_ORIGINS,
    )


def _agreement(ok: Sequence[Record]) -> float | None:
    strategies = [
        {(name, kind): getattr(choice, kind) for name, choice in record.strategy.items() for kind in KINDS}
        for record in ok
        if record.strategy
    ]
    # Choices that are equal, of all that either has.
    pairs = list(combinations(strategies, 2))
    alike = sum(len(first.items() & second.items()) for first, second in pairs)
    return 100 * alike / sum(len(first.keys() | second.keys()) for first, second in pairs) if pairs else None


def _pair(ok: Sequence[Record]) -> tuple[str, str] | None:
    choices = [choice for record in ok for choice in (record.strategy or {}).values()]
    pairs = {(choice.weight, choice.activation) for choice in choices}
    return pairs.pop() if len(pairs) == 1 else None


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
            won = row.ranked and row.gain is not None and row.gain.verdict == "win"
            wins[row.method] = wins.get(row.method, 0) + won
    bars = {board.bar for board in boards if board.bar is not None}
    return {method: count for method, count in wins.items() if bars != {method}}


def _expected_seeds(group: Sequence[Record], asked: Sequence[int]) -> int:
    own = {record.seed for record in group}
    return 1 if own <= {None} else len(own.union(asked))


def _gaps(group: Sequence[Record]) -> float | None:
    return mean([gap_to_full_precision(record) for record in group])


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


def _headline(bits: str, boards: Sequence[Board], pairs: dict[tuple[str, str], tuple[Sample, Sample]]) -> Headline:
    here = [board for board in boards if board.bits == bits]
    judged = [pairs[board.model, bits] for board in here if (board.model, bits) in pairs]
    verdicts = {board.model: board.gain.verdict if board.gain else None for board in here}
    gains = [(board.gain.value, board.bar_row.gap) for board in here if board.gain and board.bar_row]
    values, gaps = [gain for gain, _ in gains], [gap for _, gap in gains if gap is not None]
    # Of the same models as the gain: one that has little to close counts for little, and is not left out.
    closed = share_closed(fmean(values), fmean(gaps)) if gains and len(gaps) == len(gains) else None
    return Headline(bits, mean_gain(judged) if judged else None, median(values) if values else None, closed, verdicts)
