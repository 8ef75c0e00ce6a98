"""A page for each method: what it is and from which paper, and where it wins and loses."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from benchmarks.documentation import documented
from benchmarks.results import reading_place
from leaderboard.boards import Board, Comparison, Row
from leaderboard.statistics import Verdict
from leaderboard.views.base import Content, Page, method_path
from leaderboard.views.overview import VERDICTS


@dataclass(frozen=True)
class Method:
    """One method of a mode with all its rows, each with its board and comparison.

    Args:
        documentation: paragraphs on what it is, its papers among them; empty where the program does not know it.
        rows: in the order of the boards.
    """

    mode: str
    name: str
    documentation: tuple[str, ...]
    rows: tuple[tuple[Comparison, Board, Row], ...]

    @property
    def path(self) -> str:
        return method_path(self.mode, self.name)

    @property
    def complete(self) -> int:
        return sum(row.state == "complete" for _, _, row in self.rows)

    @property
    def bars(self) -> int:
        """In how many cells it is the bar itself."""
        return sum(row.method == board.bar and row.state == "complete" for _, board, row in self.rows)

    @property
    def verdicts(self) -> dict[Verdict, int]:
        """Of its gains over the bar -> in how many cells where it is ranked."""
        judged = [row for _, board, row in self.rows if row.ranked and row.method != board.bar]
        found = [row.gain.verdict for row in judged if row.gain]
        return {verdict: found.count(verdict) for verdict in VERDICTS}


def pages(content: Content) -> Iterator[Page]:
    """Yield the list of methods, and a page for each."""
    found: dict[tuple[str, str], list[tuple[Comparison, Board, Row]]] = {}
    for comparison in content.comparisons:
        for board in comparison.boards:
            for row in board.rows:
                found.setdefault((comparison.mode, row.method), []).append((comparison, board, row))
    ordered = sorted(found.items(), key=lambda item: (item[0][0], reading_place(item[0][1])))
    methods = [Method(mode, name, documentation(mode, name), tuple(rows)) for (mode, name), rows in ordered]
    for method in methods:
        yield Page(method.path, "method.html", {"shown": method})
    yield Page("methods.html", "methods.html", {"methods": methods})


@cache
def documentation(mode: str, method: str) -> tuple[str, ...]:
    """Return paragraphs on a method as a suite names it."""
    search = "uniform" if method.startswith("uniform-") else method
    texts = documented("searches" if mode == "ptq" else "training-methods", search)
    if method.startswith("uniform-"):
        kinds = ("quantizers", "reconstructions") if mode == "ptq" else ("learned-quantizers",)
        algorithm = method.removeprefix("uniform-")
        texts = next((found for kind in kinds if (found := documented(kind, algorithm))), ()) + texts
    return texts
