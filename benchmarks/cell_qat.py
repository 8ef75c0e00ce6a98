"""The part of a cell in mode `qat`: train its model quantized, by the suite's budget, and evaluate it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from benchmarks.learned_sqnr import learned_sqnr
from benchmarks.meter import Meter
from benchmarks.methods import QAT_METHODS
from benchmarks.qat_methods import QatMethod
from benchmarks.records import LayerChoice, LayerFacts, training_folder
from benchmarks.subject import Calibrated, renamed
from benchmarks.suite import Budget, Cell
from benchmarks.tasks.base import Report, Scores, Split, Task, generator_of
from dqss.engine import Engine
from dqss.learned.base import Learned
from dqss.qat import QatResult, check, train_prepared
from dqss.schedule import Schedule
from dqss.snapshots import Snapshots
from dqss.strategy import Strategy
from dqss.supernet import activation_algorithms, weight_algorithms
from dqss.training import TrainingBatches

# Steps between two snapshots of a training; one takes 0.12 to 0.3 of a step.
SNAPSHOT_EVERY = 50


def run_qat(
    cell: Cell, calibrated: Calibrated, report: Report, engine: Engine, snapshots: Snapshots | None
) -> tuple[Scores, Strategy, dict[str, Any]]:
    """Return the test scores, the strategy, and the fields of the record that are this mode's own."""
    task, budget = calibrated.task, budget_of(cell)
    # A budget that cannot be is refused before a search for the ranges to begin with.
    planned(cell, calibrated)
    start, finding = calibrated.start(cell.bits, method_of(cell).start, cell.seed or 0, report)
    with Meter() as training:
        result = trained(cell, calibrated, report, engine, snapshots)
    validation = task.evaluate(result.model, Split.VALIDATION, renamed(report, "validation"))
    with Meter() as evaluation:
        scores = task.evaluate(result.model, Split.TEST, report)
    return (
        scores,
        result.strategy,
        {
            "validation_score": validation.primary,
            # The report counts those before a stop too.
            "search_seconds": finding.seconds + max(training.seconds, result.report.seconds),
            "calibration_seconds": calibrated.seconds,
            "evaluation_seconds": evaluation.seconds,
            "forward_passes": start.forward_passes + images_sent(result.report.steps, budget),
            "peak_memory_mb": max(finding.peak_memory_mb, training.peak_memory_mb),
            "layers": LayerFacts.by_layer(
                learned_sqnr(result.model, list(result.strategy.layers), calibrated.batches), result.report.alpha
            ),
            "curves": result.report.curves,
            "start": LayerChoice.by_layer(start.strategy),
        },
    )


def trained(
    cell: Cell,
    calibrated: Calibrated,
    report: Report,
    engine: Engine | None = None,
    snapshots: Snapshots | None = None,
) -> QatResult:
    """Train a cell's model; no test image is looked at.

    Args:
        engine: as of dqss.train_qat.
        snapshots: likewise.

    Raises:
        ValueError: a budget that holds no step, or too few of them for a search; a loss that is not finite.
    """
    plan, method = planned(cell, calibrated), method_of(cell)
    start, _ = calibrated.start(cell.bits, method.start, cell.seed or 0, report)
    return train_prepared(
        calibrated.at(cell.bits),
        calibrated.calibration,
        start.strategy,
        plan.batches,
        calibrated.task.training_loss,
        plan.schedule,
        cell.seed or 0,
        plan.weights,
        plan.activations,
        method.rates(),
        budget_of(cell).distillation,
        report,
        engine,
        snapshots,
    )


class Plan(NamedTuple):
    """What a cell trains, on what, in which steps."""

    schedule: Schedule
    batches: TrainingBatches
    weights: dict[str, Learned]
    activations: dict[str, Learned]


def planned(cell: Cell, calibrated: Calibrated) -> Plan:
    """Return a cell's plan; raise ValueError as `trained` does where its budget cannot be."""
    task, budget, device = calibrated.task, budget_of(cell), calibrated.batches[0].device
    plan = Plan(
        method_of(cell).schedule(steps_of(task, budget)),
        fine_tuning(task, budget, cell.seed or 0, device),
        weight_algorithms(cell.weight_quantizers),
        activation_algorithms(cell.activation_quantizers),
    )
    check(cell.search, plan.weights, plan.activations, plan.schedule, budget.distillation, plan.batches)
    return plan


def method_of(cell: Cell) -> QatMethod:
    """Return the cell's method with its options."""
    return QAT_METHODS.create(cell.search, cell.options)


def snapshots_of(cell: Cell, out: Path) -> Snapshots:
    """Return where a cell's training is kept while it lasts."""
    return Snapshots(training_folder(out, cell.suite) / cell.key, SNAPSHOT_EVERY)


def budget_of(cell: Cell) -> Budget:
    """Return what a cell may train."""
    if cell.budget is None:
        raise ValueError(f"mode: a cell of '{cell.mode}' trains nothing. Give one of 'qat'.")
    return cell.budget


def steps_of(task: Task, budget: Budget) -> int:
    """Return how many steps a budget holds, of full batches alone; raise ValueError where it is none."""
    images = len(task.ids(Split.FINE_TUNING))
    if budget.batch_size > images:
        raise ValueError(
            f"batch_size: {budget.batch_size} is more than the {images} fine-tuning images of {task.name}. Give fewer."
        )
    return budget.epochs * (images // budget.batch_size)


def fine_tuning(task: Task, budget: Budget, seed: int, device: torch.device) -> TrainingBatches:
    """Return the batches of each epoch, in the order and with the augmentation that the seed gives every method."""

    def batches(epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        generator = generator_of(seed, epoch)
        for inputs, targets in task.training_batches(Split.FINE_TUNING, budget.batch_size, generator):
            yield inputs.to(device).contiguous(memory_format=torch.channels_last), targets.to(device)

    return batches


def images_sent(steps: int, budget: Budget) -> int:
    """Return how many images training sends forward; a backward pass counts as two.

    >>> images_sent(10, Budget(epochs=1, batch_size=64, distillation=0.0))
    1920
    """
    # Distillation asks the full-precision model about every image.
    return steps * budget.batch_size * (4 if budget.distillation > 0 else 3)
