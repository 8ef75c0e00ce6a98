"""The page of a board: all methods on one model at one bit-width, and where each number is from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.results import METHOD
from leaderboard.boards import Board, Comparison, Row
from leaderboard.statistics import Gain
from leaderboard.views.base import Page, cell_path
from leaderboard.views.chart import Plot, Series, line_plot
from leaderboard.views.wording import bar_name, bar_words, listed, signed

CURVES = {
    "loss": "Loss of the step's batch",
    "entropy": "Entropy of alpha, mean over layers (nats)",
    "refined": "Calibration loss of the strategy being refined",
}
"""Curves that have a figure, and what its vertical axis says."""


@dataclass(frozen=True)
class Figure:
    """One curve of all runs of a method."""

    title: str
    method: str
    plot: Plot


def pages(comparison: Comparison) -> Iterator[Page]:
    """Yield a page for each board."""
    for board in comparison.boards:
        values = {
            "comparison": comparison,
            "board": board,
            "findings": findings,
            "figures": list(figures(board)),
            "origins": board.origins,
            "records": [record for row in board.rows for record in row.records],
        }
        yield Page(cell_path(comparison, board), "cell.html", values)


def figures(board: Board) -> Iterator[Figure]:
    """Yield the curves of DQSS's runs: each a figure, with a line for each seed."""
    row = board.row(METHOD)
    for name, label in CURVES.items():
        runs = [curve for curve in row.curves if curve.name == name and len(curve.points) > 2] if row else []
        if runs:
            lines = [Series("the one run" if run.seed is None else f"seed {run.seed}", run.points) for run in runs]
            yield Figure(label, METHOD, line_plot(lines, "Step" if name != "refined" else "Round", label))


def findings(board: Board, unit: str) -> list[str]:
    """Return what a board shows of DQSS, in plain sentences; a loss is called a loss."""
    row, bar, rival = board.row(METHOD), board.bar_row, board.rival
    if row is None or row.state != "complete":
        return [f"DQSS has no complete result here ({row.state if row else 'missing'}), so it wins nothing."]
    if not row.ranked:
        return [f"DQSS's result here is {row.badge}: it is shown, and wins nothing beside results that are not."]
    sentences = []
    if board.unlike:
        name = bar_name(board.mode)
        sentences.append(f"DQSS chose among other candidates than the {name}: no gain over it is given.")
    elif row.gain is None and board.bar is None:
        sentences.append("No uniform method is complete here, so there is no bar.")
    elif row.gain is None:
        name = bar_name(board.mode)
        sentences.append(f"The {name} has no complete result here ({bar.state if bar else 'missing'}).")
    else:
        sentences.append(_against_bar(row.gain, bar_words(board), unit))
    if rival is not None and row.score is not None and rival.score is not None:
        sentences.append(_against_rival(row.score - rival.score, rival, board, unit))
    return sentences + _others(board)


def _others(board: Board) -> list[str]:
    """Return a sentence on the rivals that have no gain because they chose among other candidates than the bar."""
    bar = board.bar_row
    if bar is None or not bar.ranked:
        return []
    names = [row.method for row in board.rows if row.state == "complete" and row.gain is None and row.method != METHOD]
    return [f"Among other candidates than the bar, so without a gain: {listed(names)}."] if names else []


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
