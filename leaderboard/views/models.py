"""A page for each model: what it loses to quantization on every board, and with which method least."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.records import MetricFacts
from leaderboard.boards import Board, Comparison
from leaderboard.views.base import Content, Page, model_path
from leaderboard.views.overview import leader


@dataclass(frozen=True)
class Model:
    """One model of a task with all its boards, each with the comparison that it is of."""

    task: str
    name: str
    boards: tuple[tuple[Comparison, Board], ...]

    @property
    def path(self) -> str:
        return model_path(self.task, self.name)

    @property
    def metric(self) -> MetricFacts | None:
        """Of its scores; None where nothing has one."""
        return next((comparison.metric for comparison, _ in self.boards if comparison.metric), None)

    @property
    def full_precision(self) -> tuple[float, float] | None:
        """Lowest and highest score of the checkpoint; they should be equal."""
        found = [score for _, board in self.boards for score in board.full_precision or ()]
        return (min(found), max(found)) if found else None


def pages(content: Content) -> Iterator[Page]:
    """Yield the list of models, and a page for each."""
    found: dict[tuple[str, str], list[tuple[Comparison, Board]]] = {}
    for comparison in content.comparisons:
        for board in comparison.boards:
            found.setdefault((comparison.task, board.model), []).append((comparison, board))
    models = [Model(task, name, tuple(boards)) for (task, name), boards in sorted(found.items())]
    for model in models:
        yield Page(model.path, "model.html", {"model": model, "leader": leader})
    yield Page("models.html", "models.html", {"models": models})
