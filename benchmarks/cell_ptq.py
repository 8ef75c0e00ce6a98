"""The part of a cell in mode `ptq`: search a strategy on the calibration set and evaluate it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch

from benchmarks.meter import Meter
from benchmarks.methods import METHODS
from benchmarks.records import LayerFacts
from benchmarks.subject import Calibrated
from benchmarks.suite import Cell
from benchmarks.tasks.base import Report, Scores, Split
from dqss.candidates import activation_candidate, plain_name, weight_candidate
from dqss.ptq import pose, quantize
from dqss.reconstruction import RECONSTRUCTIONS
from dqss.search.base import Found, Search, SearchProblem
from dqss.sensitivity import layer_sensitivity
from dqss.sqnr import layer_sqnr
from dqss.strategy import Choice, Strategy
from dqss.weights import moments_of, reconstruct


class Reconstructed(NamedTuple):
    """What a cell's reconstructions cost: wall time, None where it has none, and images sent through the network."""

    seconds: float | None
    images: int


@dataclass
class Searches:
    """What the searches among one model's candidates share.

    Args:
        grids_seconds: of working out the candidates of the latest problem.
        problems: (bits, candidates) -> the search problem, shared by the methods of those bits.
        reconstruction_seconds: (bits, name) -> what making the candidates took, of which cells share the weights.
        sensitivities: bits -> (layer name, choice) -> sensitivity.
        scores: strategy as JSON -> test scores. The same strategy is the same model, so it is evaluated once.
    """

    calibrated: Calibrated
    problems: dict[tuple[Any, ...], SearchProblem] = field(default_factory=dict)
    grids_seconds: float = 0.0
    reconstruction_seconds: dict[tuple[str, str], float] = field(default_factory=dict)
    sensitivities: dict[str, dict[tuple[str, Choice], float]] = field(default_factory=dict)
    scores: dict[str, tuple[Scores, float]] = field(default_factory=dict)

    def reconstruct(self, cell: Cell, report: Report) -> Reconstructed:
        """Make the cell's reconstructed weights; those that an earlier cell made are taken over, and count alike."""
        names = {plain_name(name) for name in cell.weight_quantizers} & set(RECONSTRUCTIONS)
        if not names:
            return Reconstructed(None, 0)
        prepared = self.calibrated.at(cell.bits)
        keys = [("any", "second moments"), *((cell.bits, name) for name in sorted(names))]
        for key in keys:
            if key not in self.reconstruction_seconds:
                with Meter() as meter:
                    if key[1] in RECONSTRUCTIONS:
                        reconstruct([RECONSTRUCTIONS.create(key[1])], prepared, self.calibrated.calibration, report)
                    else:
                        moments_of(prepared, self.calibrated.calibration)
                self.reconstruction_seconds[key] = meter.seconds
        images = sum(len(target) for target in self.calibrated.calibration.targets)
        return Reconstructed(sum(self.reconstruction_seconds[key] for key in keys), images)

    def problem(self, cell: Cell) -> SearchProblem:
        """Return the search problem of the cell, fresh for one search."""
        key = (cell.bits, cell.weight_quantizers, cell.activation_quantizers)
        if key not in self.problems:
            with Meter() as meter:
                posed = pose(
                    self.calibrated.at(cell.bits),
                    self.calibrated.calibration,
                    self.calibrated.batches,
                    {name: weight_candidate(name) for name in cell.weight_quantizers},
                    {name: activation_candidate(name) for name in cell.activation_quantizers},
                    self.calibrated.task.output_loss,
                )
            # Only the latest bits are kept: cells come ordered by them.
            self.problems, self.grids_seconds = {key: posed}, meter.seconds
        return self.problems[key].fresh(cell.seed or 0)

    def layer_facts(self, cell: Cell, problem: SearchProblem, found: Found) -> dict[str, LayerFacts]:
        """Return what a record tells of each layer under the strategy found."""
        given = problem.prepared, problem.calibration
        sensitivity = layer_sensitivity(
            *given, problem.batches, problem.output_loss, found.strategy, self.sensitivities.setdefault(cell.bits, {})
        )
        finite = {name: value if math.isfinite(value) else None for name, value in sensitivity.items()}
        return LayerFacts.by_layer(layer_sqnr(*given, found.strategy), found.alpha, finite)

    def evaluate(self, problem: SearchProblem, strategy: Strategy, report: Report) -> tuple[Scores, float]:
        """Return the strategy's scores on the test split and the seconds that took."""
        key = strategy.to_json()
        if key not in self.scores:
            with Meter() as meter:
                quantized = quantize(problem.prepared, problem.calibration, strategy)
                scores = self.calibrated.task.evaluate(quantized, Split.TEST, report)
            self.scores[key] = (scores, meter.seconds)
        return self.scores[key]


def run_ptq(cell: Cell, searches: Searches, report: Report) -> tuple[Scores, Strategy, dict[str, Any]]:
    """Return the test scores, the strategy, and the fields of the record that are this mode's own."""
    reconstructed = searches.reconstruct(cell, report)
    problem = searches.problem(cell)
    torch.manual_seed(problem.seed)
    with Meter() as meter:
        found = search_of(cell).search(problem, report)
    scores, evaluation_seconds = searches.evaluate(problem, found.strategy, report)
    return (
        scores,
        found.strategy,
        {
            "calibration_loss": found.calibration_loss,
            "relaxed_loss": found.relaxed_loss,
            "discretized_loss": found.discretized_loss,
            "search_seconds": meter.seconds + (reconstructed.seconds or 0),
            "reconstruction_seconds": reconstructed.seconds,
            "calibration_seconds": searches.calibrated.seconds + searches.grids_seconds,
            "evaluation_seconds": evaluation_seconds,
            "forward_passes": problem.cost.forward_passes + reconstructed.images,
            "peak_memory_mb": meter.peak_memory_mb,
            "layers": searches.layer_facts(cell, problem, found),
            "curves": found.curves,
        },
    )


def search_of(cell: Cell) -> Search:
    """Return the cell's search with its options."""
    return METHODS.create(cell.search, cell.options)
