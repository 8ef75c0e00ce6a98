"""One page per board: which algorithm DQSS chose, layer by layer, for each seed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from benchmarks.records import LayerChoice, Record
from benchmarks.results import METHOD
from leaderboard.boards import Board, Place
from leaderboard.load import candidates_of
from leaderboard.views.base import Page, strategy_path

HEAT_LEVELS = 10


@dataclass(frozen=True)
class Mark:
    """One candidate of one layer: its share of alpha (None where the record has none), and whether it was chosen."""

    share: float | None
    chosen: bool

    @property
    def heat(self) -> int:
        """The step of the colour scale, 0 to HEAT_LEVELS."""
        return 0 if self.share is None else round(min(max(self.share, 0.0), 1.0) * HEAT_LEVELS)


@dataclass(frozen=True)
class LayerLine:
    """One layer's row: a mark per candidate, alpha's entropy, and the SQNR of what was chosen."""

    name: str
    bits: str
    weights: tuple[Mark, ...]
    activations: tuple[Mark, ...]
    weight_entropy: float | None
    activation_entropy: float | None
    weight_sqnr_db: float | None
    activation_sqnr_db: float | None


@dataclass(frozen=True)
class Found:
    """One record's strategy as a table."""

    record: Record
    weight_candidates: tuple[str, ...]
    activation_candidates: tuple[str, ...]
    lines: tuple[LayerLine, ...]


def pages(place: Place, board: Board) -> Iterator[Page]:
    """Yield the page of a board on which DQSS found a strategy."""
    if board.has_strategy:
        yield _page(place, board)


def found_in(record: Record) -> Found:
    """Return the table of a record that has a strategy."""
    strategy, facts = record.strategy or {}, record.layers or {}
    # `layers` is in the network's order; a strategy without facts keeps its own.
    names = [name for name in facts if name in strategy] + [name for name in strategy if name not in facts]
    weights = _candidates(record, "weight", [choice.weight for choice in strategy.values()])
    activations = _candidates(record, "activation", [choice.activation for choice in strategy.values()])
    lines = []
    for name in names:
        choice, fact = strategy[name], facts.get(name)
        lines.append(
            LayerLine(
                name=name,
                bits=choice.bits,
                weights=_marks(weights, choice.weight, fact.alpha_weight if fact else None),
                activations=_marks(activations, choice.activation, fact.alpha_activation if fact else None),
                weight_entropy=fact.entropy_weight if fact else None,
                activation_entropy=fact.entropy_activation if fact else None,
                weight_sqnr_db=fact.weight_sqnr_db if fact else None,
                activation_sqnr_db=fact.activation_sqnr_db if fact else None,
            )
        )
    return Found(record, weights, activations, tuple(lines))


def agreement(records: list[Record]) -> tuple[int, int]:
    """Return for how many layers all records chose the same pair, and how many layers there are."""
    strategies = [record.strategy or {} for record in records]
    layers = list(dict.fromkeys(name for strategy in strategies for name in strategy))
    return sum(_alike([strategy.get(name) for strategy in strategies]) for name in layers), len(layers)


def _records(board: Board) -> list[Record]:
    row = board.row(METHOD)
    return [record for record in row.ok if record.strategy] if row else []


def _alike(choices: list[LayerChoice | None]) -> bool:
    return all(choice is not None and choice == choices[0] for choice in choices)


def _candidates(record: Record, kind: Literal["weight", "activation"], chosen: list[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys([*candidates_of(record, kind), *chosen]))


def _marks(candidates: tuple[str, ...], chosen: str, alpha: list[float] | None) -> tuple[Mark, ...]:
    shares: list[float | None] = [*alpha] if alpha and len(alpha) == len(candidates) else [None] * len(candidates)
    return tuple(Mark(share, name == chosen) for name, share in zip(candidates, shares, strict=True))


def _page(place: Place, board: Board) -> Page:
    records = _records(board)
    tables = [found_in(record) for record in records]
    names = dict.fromkeys(name for table in tables for name in (*table.weight_candidates, *table.activation_candidates))
    choices = [choice for record in records for choice in (record.strategy or {}).values()]
    values = {
        "comparison": place,
        "board": board,
        "row": board.row(METHOD),
        "bar": board.bar_row,
        "tables": tables,
        "quantizers": list(names),
        "weight_counts": Counter(choice.weight for choice in choices),
        "activation_counts": Counter(choice.activation for choice in choices),
        "agreement": agreement(records),
    }
    return Page(strategy_path(place, board), "strategy.html", values)
