"""Learning rates of training methods, tuned under one budget for all: `dqss-bench tune`.

Each method has the same number of trials, the first of them its rates as they are. A trial trains all chosen cells; its
score is the mean of theirs on search-validation images. No test image is looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import yaml

from benchmarks.cell_qat import trained
from benchmarks.launch import Processes
from benchmarks.methods import QAT_METHODS
from benchmarks.parallel import Sharing
from benchmarks.records import key_of
from benchmarks.subject import Calibrated, loaded
from benchmarks.suite import Cell
from benchmarks.tasks import TASKS
from benchmarks.tasks.base import Report, Split
from benchmarks.tuning import Trialled, maximise
from dqss.schedule import Rates
from dqss.search.base import no_report

SPAN = 10.0
"""How far a rate may be from the library's default, as a factor."""


@dataclass(frozen=True)
class Tuned:
    """What tuning found for one method at one bit-width.

    Args:
        options: the method's own, and its best rates.
        trials: all, the first of them with the rates as they were.
    """

    method: str
    bits: str
    options: dict[str, Any]
    trials: list[Trialled]

    @property
    def best(self) -> Trialled:
        """The trial with the highest score; of equals the earliest, so that a default stays without a reason."""
        return max(self.trials, key=lambda trial: trial.score)


class Bench:
    """Models calibrated once for all trials."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._calibrated: dict[tuple[Any, ...], Calibrated] = {}

    def score(self, cell: Cell) -> float:
        """Return the score of a trained cell on search-validation; 0 where its loss was not finite."""
        calibrated = self._of(cell)
        try:
            model = trained(cell, calibrated, no_report, Sharing(Processes(0, 1, 0)).engine(cell)).model
        except ValueError as error:
            if not str(error).startswith("loss: "):
                raise
            return 0.0
        return calibrated.task.evaluate(model, Split.VALIDATION, no_report).primary

    def _of(self, cell: Cell) -> Calibrated:
        key = (cell.task, cell.model, cell.protocol_definition)
        if key not in self._calibrated:
            task = TASKS.create(cell.task)
            network = loaded(cell, task, self._device)
            self._calibrated[key] = Calibrated.of(cell, task, network, no_report)
        return self._calibrated[key]


def tune(cells: Sequence[Cell], out: Path, trials: int, device: torch.device, report: Report) -> list[Tuned]:
    """Return the best rates of each method among the cells, at each bit-width of theirs.

    Args:
        cells: of mode `qat`; those of a method and bit-width are trained in each of its trials.
        out: the output folder; trials are kept below it, and a repeat goes on with them.
        trials: of each method at each bit-width.
        device: where to train.
        report: called with the method and the trainings done and in all.
    """
    bench = Bench(device)
    groups: dict[tuple[str, str], list[Cell]] = {}
    for cell in cells:
        groups.setdefault((cell.method, cell.bits), []).append(cell)
    return [_tuned(group, out, trials, bench, report) for group in groups.values()]


def _tuned(cells: Sequence[Cell], out: Path, trials: int, bench: Bench, report: Report) -> Tuned:
    first = cells[0]
    current = rates_of(first)
    space = {name: _ends(name, rate) for name, rate in current.items()}
    done = 0

    def objective(rates: dict[str, float]) -> float:
        nonlocal done
        scores = []
        for cell in cells:
            scores.append(bench.score(replace(cell, options={**cell.options, **rates})))
            done += 1
            report(f"tuning {first.method} {first.bits}", done, trials * len(cells))
        return sum(scores) / len(scores)

    journal = out / first.suite / "tuning" / f"{first.method}-{first.bits}-{_fingerprint(cells, space)}.journal"
    found = maximise(objective, space, current, trials, journal)
    best = Tuned(first.method, first.bits, first.options, found).best
    # Rates as they were are not written down, so that a later default is taken over.
    options = first.options if best is found[0] else {**first.options, **best.values}
    return Tuned(first.method, first.bits, options, found)


def rates_of(cell: Cell) -> dict[str, float]:
    """Return the rates that a cell's method has options for, as they are."""
    method = QAT_METHODS.create(cell.search, cell.options)
    return {name: getattr(method, name) for name in ("network", "quantizers", "alpha") if hasattr(method, name)}


def _ends(name: str, current: float) -> tuple[float, float]:
    default = getattr(Rates(), name)
    return min(default / SPAN, current), max(default * SPAN, current)


def _fingerprint(cells: Sequence[Cell], space: dict[str, tuple[float, float]]) -> str:
    """Return 12 hex digits that differ where trials of one say nothing of the other."""
    return key_of({"cells": [cell.definition for cell in cells], "space": {n: list(e) for n, e in space.items()}})[:12]


def snippet(tuned: Sequence[Tuned]) -> str:
    """Return the lines to put under `qat:` into the suite's file."""
    lines = ["  methods:"]
    for name in dict.fromkeys(one.method for one in tuned):
        lines.append(f"    - {name}:")
        for one in tuned:
            if one.method == name:
                # YAML reads 5e-05 as a text; what writes it knows that.
                options = yaml.safe_dump(one.options, default_flow_style=True, sort_keys=False, width=10_000).strip()
                lines.append(f"        {one.bits}: {options}")
    return "\n".join(lines)
