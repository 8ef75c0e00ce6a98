"""The board in short, as Markdown: a line for each comparison and bit-width."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from leaderboard.boards import Comparison, Headline
from leaderboard.views.wording import NOTHING, counted, interval, listed, number, signed

HEADER = ("board", "bits", "mean gain of DQSS", "95 % interval", "median", "gap closed", "won, tied, lost", "seeds")


def headline_table(comparisons: Iterable[Comparison]) -> str:
    """Return the table of all headlines, as on the first page of the site."""
    rows = [HEADER, *(row for comparison in comparisons for row in _rows(comparison))]
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "|---" * len(HEADER) + "|", *lines[1:]]) + "\n"


def _rows(comparison: Comparison) -> Iterator[tuple[str, ...]]:
    board = f"{comparison.suite} ({comparison.task}, {comparison.mode.upper()}, {comparison.protocol})"
    seeds = listed(comparison.seeds) if comparison.seeds else NOTHING
    unit = comparison.metric.difference_unit if comparison.metric else "points"
    for headline in comparison.headlines:
        gain = headline.gain
        told = (f"{signed(gain.value)} {unit}", interval(gain.interval)) if gain else (NOTHING, NOTHING)
        closed = NOTHING if headline.closed is None else f"{number(headline.closed, 0)} %"
        yield board, headline.bits, *told, signed(headline.median), closed, _verdicts(headline), seeds


def _verdicts(headline: Headline) -> str:
    text = ", ".join(str(headline.count(verdict)) for verdict in ("win", "tie", "loss"))
    unjudged = len(headline.absent) + headline.count("open")
    return f"{text}; {counted(unjudged, 'model')} not judged" if unjudged else text
