"""The layer explorer, a page per board: alpha and what DQSS chose in each layer, and any two strategies compared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from markupsafe import Markup

from benchmarks.records import LayerChoice, LayerFacts, Record
from benchmarks.results import METHOD
from leaderboard.boards import Board, Place
from leaderboard.load import candidates_of
from leaderboard.views.base import Page, layers_path
from leaderboard.views.chart import RowPlot, RowSeries, Scale, linear, logarithmic, row_plot
from leaderboard.views.choices import contrasts, data_of, fields_of, layers_of, opponents, ordered, runs_of
from leaderboard.views.wording import number

HEAT_LEVELS = 10
PICK = Markup(' <span class="pick">chosen</span>')
BAR_WIDTH = 48
"""Of the bar beside a sensitivity, in the units of the drawing; a bar is at least 2 long, so as to be seen."""


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
    """One layer's row: a mark per candidate, and what the run saw there."""

    name: str
    bits: str
    weights: tuple[Mark, ...]
    activations: tuple[Mark, ...]
    facts: LayerFacts


@dataclass(frozen=True)
class Found:
    """One record's strategy as a table, and as figures."""

    record: Record
    weight_candidates: tuple[str, ...]
    activation_candidates: tuple[str, ...]
    lines: tuple[LayerLine, ...]

    @property
    def sqnr(self) -> RowPlot | None:
        """The SQNR of weights and activations by layer; None where nothing is known of it."""
        weights = RowSeries("weights", [line.facts.weight_sqnr_db for line in self.lines])
        activations = RowSeries("activations", [line.facts.activation_sqnr_db for line in self.lines])
        known = [one for one in (weights, activations) if any(value is not None for value in one.values)]
        return row_plot(self.names, known, "SQNR (dB)", linear) if known else None

    @property
    def sensitivity(self) -> RowPlot | None:
        """The sensitivity by layer on a logarithmic axis; None where nothing is known of it."""
        values = [_positive(line.facts.sensitivity) for line in self.lines]
        if all(value is None for value in values):
            return None
        return row_plot(self.names, [RowSeries("sensitivity", values)], "Sensitivity (calibration loss)", logarithmic)

    @property
    def names(self) -> list[str]:
        return [line.name for line in self.lines]


def pages(place: Place, board: Board) -> Iterator[Page]:
    """Yield the layer explorer of a board on which DQSS found a strategy."""
    if board.has_strategy:
        yield page_of(place, board)


def page_of(place: Place, board: Board) -> Page:
    """Return the layer explorer of a board on which DQSS found a strategy."""
    row = board.row(METHOD)
    records = [record for record in row.ok if record.strategy] if row else []
    tables = [found_in(record) for record in records]
    names = dict.fromkeys(name for table in tables for name in (*table.weight_candidates, *table.activation_candidates))
    choices = [choice for record in records for choice in (record.strategy or {}).values()]
    runs = runs_of(board)
    layers, pair = layers_of(runs), opponents(board, runs)
    values = {
        "comparison": place,
        "board": board,
        "row": row,
        "bar": board.bar_row,
        "tables": tables,
        "sensitivities": sensitivities(tables),
        "bar_width": BAR_WIDTH,
        "bar_length": bar_length,
        "cells": cells,
        "quantizers": list(names),
        "weight_counts": Counter(choice.weight for choice in choices),
        "activation_counts": Counter(choice.activation for choice in choices),
        "agreement": agreement(records),
        "pair": pair,
        "contrasts": contrasts(*pair, layers) if pair else [],
        "fields": fields_of(runs),
        "data": data_of(runs, layers),
    }
    return Page(layers_path(place, board), "layers.html", values)


def found_in(record: Record) -> Found:
    """Return the table of a record that has a strategy."""
    strategy, facts = record.strategy or {}, record.layers or {}
    unknown = LayerFacts(weight_sqnr_db=None, activation_sqnr_db=None)
    weights = _candidates(record, "weight", [choice.weight for choice in strategy.values()])
    activations = _candidates(record, "activation", [choice.activation for choice in strategy.values()])
    lines = []
    for name in ordered(record):
        choice, fact = strategy[name], facts.get(name, unknown)
        lines.append(
            LayerLine(
                name=name,
                bits=choice.bits,
                weights=_marks(weights, choice.weight, fact.alpha_weight),
                activations=_marks(activations, choice.activation, fact.alpha_activation),
                facts=fact,
            )
        )
    return Found(record, weights, activations, tuple(lines))


def sensitivities(tables: Sequence[Found]) -> Scale | None:
    """Return the logarithmic scale of the bars, one for all seeds; None where no sensitivity is known."""
    values = [_positive(line.facts.sensitivity) for table in tables for line in table.lines]
    known = [value for value in values if value is not None]
    return logarithmic(known, (0, BAR_WIDTH)) if known else None


def bar_length(scale: Scale, sensitivity: float | None) -> float:
    """Return the length of a sensitivity's bar; nil has none."""
    value = _positive(sensitivity)
    return 0 if value is None else max(2.0, scale.at(value))


def agreement(records: list[Record]) -> tuple[int, int]:
    """Return for how many layers all records chose the same pair, and how many layers there are."""
    strategies = [record.strategy or {} for record in records]
    layers = list(dict.fromkeys(name for strategy in strategies for name in strategy))
    return sum(_alike([strategy.get(name) for strategy in strategies]) for name in layers), len(layers)


def _positive(value: float | None) -> float | None:
    """Return what has a place on a logarithmic scale, None for the rest."""
    return value if value is not None and value > 0 else None


def _alike(choices: list[LayerChoice | None]) -> bool:
    return all(choice is not None and choice == choices[0] for choice in choices)


def _candidates(record: Record, kind: Literal["weight", "activation"], chosen: list[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys([*candidates_of(record, kind), *chosen]))


def cells(marks: Sequence[Mark]) -> Markup:
    """Return the cells of a table's row that show these marks: too many to be written one by one in the template."""
    return Markup("".join(_cell(_text(mark), mark.heat, mark.chosen) for mark in marks))


def _text(mark: Mark) -> str:
    return "" if mark.share is None and mark.chosen else number(mark.share)


@lru_cache(maxsize=1024)
def _cell(text: str, heat: int, chosen: bool) -> str:
    class_, pick = (" chosen", PICK) if chosen else ("", "")
    return str(Markup('<td class="heat heat-{}{}">{}{}</td>\n').format(heat, class_, text, pick))


def _marks(candidates: tuple[str, ...], chosen: str, alpha: list[float] | None) -> tuple[Mark, ...]:
    shares: list[float | None] = [*alpha] if alpha and len(alpha) == len(candidates) else [None] * len(candidates)
    return tuple(Mark(share, name == chosen) for name, share in zip(candidates, shares, strict=True))
