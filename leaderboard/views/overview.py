"""The first page: DQSS against the best uniform pair, then every board."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.results import METHOD
from leaderboard.boards import Board, Comparison, Headline, Row
from leaderboard.statistics import Gain
from leaderboard.views.base import Content, Page
from leaderboard.views.chart import Axis, axis_for
from leaderboard.views.wording import bar_name, bar_words, signed


@dataclass(frozen=True)
class Section:
    """A comparison with what its part of the page adds.

    Args:
        images: how many test images its gains pair; the lowest and the highest count.
    """

    comparison: Comparison
    axis: Axis
    images: tuple[int, int] | None


def pages(content: Content) -> Iterator[Page]:
    """Yield the first page."""
    sections = [_section(comparison) for comparison in content.comparisons]
    values = {"sections": sections, "loaded": content.loaded, "verdict_of": verdict_of, "findings": findings}
    values["uneven_seeds"] = uneven_seeds
    yield Page("index.html", "overview.html", values)


def uneven_seeds(comparison: Comparison) -> bool:
    """Return whether some boards have other seeds than others."""
    return any(board.seeds not in ((), comparison.seeds) for board in comparison.boards)


def findings(board: Board, unit: str) -> list[str]:
    """Return what a board shows of DQSS, in plain sentences; a loss is called a loss."""
    row, bar, rival = board.row(METHOD), board.bar_row, board.rival
    if row is None or row.state != "complete":
        return [f"DQSS has no complete result here ({row.state if row else 'missing'}), so it wins nothing."]
    sentences = []
    if row.gain is None:
        name = bar_name(board.mode)
        sentences.append(f"The {name} has no complete result here ({bar.state if bar else 'missing'}).")
    else:
        sentences.append(_against_bar(row.gain, bar_words(board), unit))
    if rival is not None and row.score is not None and rival.score is not None:
        sentences.append(_against_rival(row.score - rival.score, rival, board, unit))
    return sentences


def verdict_of(headline: Headline) -> str:
    """Return the class of a headline's figure; a mean over some of the models is never shown as a win."""
    if headline.gain is None:
        return "none"
    verdict = headline.gain.verdict
    return "open" if verdict == "win" and headline.absent else verdict


def _against_bar(gain: Gain, bar: str, unit: str) -> str:
    value = f"{signed(gain.value)} {unit}"
    return {
        "win": f"DQSS beats {bar}: {value}.",
        "loss": f"DQSS loses to {bar}: {value}.",
        "tie": f"DQSS and {bar} cannot be told apart by these images: {value}.",
        "open": f"DQSS over {bar}: {value}, with no interval to judge it by.",
    }[gain.verdict]


def _against_rival(ahead: float, rival: Row, board: Board, unit: str) -> str:
    if rival.method == board.bar:
        return f"No other rival is stronger than that {'pair' if board.mode == 'ptq' else 'algorithm'}."
    if ahead < 0:
        return f"The strongest rival, {rival.method}, scores {signed(-ahead)} {unit} higher."
    if ahead == 0:
        return f"The strongest rival, {rival.method}, scores the same."
    return f"It is {signed(ahead)} {unit} above the strongest rival, {rival.method}."


def _section(comparison: Comparison) -> Section:
    gains = [board.gain for board in comparison.boards]
    counts = [board.images for board in comparison.boards if board.images is not None]
    images = (min(counts), max(counts)) if counts else None
    return Section(comparison, axis_for([*gains, *(h.gain for h in comparison.headlines)]), images)
