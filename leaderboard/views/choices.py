"""Two strategies side by side: where they differ, layer by layer. The page's script does the same for any two."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from benchmarks.records import Record
from benchmarks.results import METHOD
from leaderboard.boards import Board
from leaderboard.views.wording import NOTHING, number, significant


class Choice(NamedTuple):
    """What one strategy has in one layer, as the page writes it; algorithms are compared by name."""

    weight: str
    activation: str
    weight_sqnr: str
    activation_sqnr: str
    sensitivity: str


@dataclass(frozen=True)
class Run:
    """One record that has a strategy.

    Args:
        id: distinct on a board, for the page's address.
        name: for people.
        choices: layer -> what it has there.
    """

    id: str
    name: str
    choices: dict[str, Choice]


@dataclass(frozen=True)
class Contrast:
    """One layer of two strategies; None where a strategy has no such layer."""

    layer: str
    a: Choice | None
    b: Choice | None

    @property
    def differs(self) -> str:
        """In what the two differ: `weights`, `activations`, `both` or `nothing`."""
        weights = (self.a and self.a.weight) != (self.b and self.b.weight)
        activations = (self.a and self.a.activation) != (self.b and self.b.activation)
        if weights and activations:
            return "both"
        return "weights" if weights else "activations" if activations else "nothing"


def runs_of(board: Board) -> list[Run]:
    """Return all that found a strategy on a board: DQSS first, then the bar, then the others as they rank."""
    rows = sorted(board.rows, key=lambda row: (row.method != METHOD, row.method != board.bar))
    return [_run(record) for row in rows for record in row.ok if record.strategy]


def opponents(board: Board, runs: Sequence[Run]) -> tuple[Run, Run] | None:
    """Return the two runs that a page compares first, DQSS's first seed and the bar; None for fewer than two runs."""
    others = [run for run in runs[1:] if run.id.partition(":")[0] == board.bar] or list(runs[1:])
    return (runs[0], others[0]) if others else None


def contrasts(a: Run, b: Run, layers: Sequence[str]) -> list[Contrast]:
    """Return the two strategies layer by layer."""
    return [Contrast(layer, a.choices.get(layer), b.choices.get(layer)) for layer in layers]


def layers_of(runs: Sequence[Run]) -> list[str]:
    """Return every layer of any run, in the network's order."""
    return list(dict.fromkeys(layer for run in runs for layer in run.choices))


def fields_of(runs: Sequence[Run]) -> list[str]:
    """Return what a page shows of a choice: all of it, but no sensitivity where no run knows any."""
    sensitive = any(choice.sensitivity != NOTHING for run in runs for choice in run.choices.values())
    return [name for name in Choice._fields if sensitive or name != "sensitivity"]


def data_of(runs: Sequence[Run], layers: Sequence[str]) -> list[dict[str, Any]]:
    """Return what the page's script compares any two runs with: of each the fields of every layer, None without it."""
    shown = len(fields_of(runs))
    return [
        {
            "id": run.id,
            "name": run.name,
            "choices": [list(run.choices[layer][:shown]) if layer in run.choices else None for layer in layers],
        }
        for run in runs
    ]


def ordered(record: Record) -> list[str]:
    """Return a strategy's layers in the network's order, which is that of the record's facts."""
    strategy, facts = record.strategy or {}, record.layers or {}
    return [name for name in facts if name in strategy] + [name for name in strategy if name not in facts]


def _run(record: Record) -> Run:
    seeded = record.seed is not None
    return Run(
        id=f"{record.method}:{record.seed}" if seeded else record.method,
        name=f"{record.method}, seed {record.seed}" if seeded else record.method,
        choices={layer: _choice(record, layer) for layer in ordered(record)},
    )


def _choice(record: Record, layer: str) -> Choice:
    chosen, fact = (record.strategy or {})[layer], (record.layers or {}).get(layer)
    return Choice(
        weight=chosen.weight,
        activation=chosen.activation,
        weight_sqnr=number(fact.weight_sqnr_db if fact else None, 1),
        activation_sqnr=number(fact.activation_sqnr_db if fact else None, 1),
        sensitivity=significant(fact.sensitivity if fact else None),
    )
