"""Run one cell, from its definition to its record."""

from __future__ import annotations

import os
import platform
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil
import torch

from benchmarks.cell_ptq import Searches, run_ptq
from benchmarks.cell_qat import run_qat, snapshots_of
from benchmarks.parallel import Sharing
from benchmarks.records import LayerChoice, MetricFacts, Outcomes, Record, shortened
from benchmarks.subject import Calibrated, loaded, renamed
from benchmarks.suite import Cell
from benchmarks.tasks import TASKS
from benchmarks.tasks.base import Report, Split
from dqss.cost import bit_operations, size_bytes

VERSIONED = ("dqss-bench", "torch", "numpy", "optuna", "accelerate", "deepspeed")
KEPT_SUBJECTS = 3
"""Processes take the longest cells first, of whatever model."""


@dataclass(frozen=True)
class Subject:
    """A task's model under a protocol: measured in full precision, and what its cells share."""

    full_precision_score: float
    calibrated: Calibrated
    searches: Searches

    @classmethod
    def of(cls, cell: Cell, device: torch.device, report: Report) -> Subject:
        """Load, evaluate and calibrate a cell's model."""
        task = TASKS.create(cell.task)
        network = loaded(cell, task, device)
        task.take_reference(network, renamed(report, "full-precision outputs"))
        full_precision = task.evaluate(network, Split.TEST, renamed(report, "full-precision evaluation"))
        calibrated = Calibrated.of(cell, task, network, report)
        return cls(full_precision.primary, calibrated, Searches(calibrated))


class Context:
    """What the cells of one process share: the device, and the subjects of the latest cells.

    Args:
        sharing: how this process and others share the cells.
        out: the output folder, where a training is kept while it lasts; None keeps nothing.
    """

    def __init__(self, sharing: Sharing, out: Path | None = None) -> None:
        self.sharing = sharing
        self.out = out
        self.device = torch.device(sharing.processes.device())
        self._subjects: dict[tuple[Any, ...], Subject] = {}

    def subject(self, cell: Cell, report: Report) -> Subject:
        """Return the cell's subject, made anew where none of the latest has the same model and protocol."""
        key = (cell.task, cell.model, cell.definition["model"]["checkpoint"], cell.protocol_definition)
        subject = self._subjects.pop(key, None)
        if subject is None:
            if len(self._subjects) == KEPT_SUBJECTS:
                del self._subjects[next(iter(self._subjects))]
            subject = Subject.of(cell, self.device, report)
        self._subjects[key] = subject
        return subject


def run_cell(cell: Cell, context: Context, report: Report) -> Record:
    """Search a strategy, or train with one; evaluate the model on the test set and return the record."""
    started = now()
    subject = context.subject(cell, report)
    task, prepared = subject.calibrated.task, subject.calibrated.at(cell.bits)
    if cell.mode == "qat":
        snapshots = None if context.out is None else snapshots_of(cell, context.out)
        scores, strategy, facts = run_qat(cell, subject.calibrated, report, context.sharing.engine(cell), snapshots)
    else:
        scores, strategy, facts = run_ptq(cell, subject.searches, report)
    return Record(
        **identity(cell, started, context.sharing),
        **facts,
        status="ok",
        metric=MetricFacts(**asdict(task.metric)),
        score=scores.primary,
        full_precision_score=subject.full_precision_score,
        measures=scores.measures,
        size_bytes=size_bytes(prepared),
        bops=bit_operations(prepared, subject.calibrated.batches[0][:1]),
        strategy=LayerChoice.by_layer(strategy),
        outcomes=Outcomes.pack(scores.outcomes.cpu().numpy()),
        pictures=scores.pictures,
        ids={split.value: shortened(task.ids(split)) for split in _splits(cell)},
    )


def _splits(cell: Cell) -> list[Split]:
    """Return what a cell's score may depend on, its checkpoint's training data included."""
    return [split for split in Split if cell.mode == "qat" or split is not Split.FINE_TUNING]


def identity(cell: Cell, started: str, sharing: Sharing) -> dict[str, Any]:
    """Return the fields of a record that say which cell it is of, and where and when it ran."""
    device = sharing.processes.device()
    return {
        "key": cell.key,
        "definition": cell.definition,
        "suite": cell.suite,
        "suite_version": cell.suite_version,
        "task": cell.task,
        "model": cell.model,
        "bits": cell.bits,
        "mode": cell.mode,
        "protocol": cell.protocol,
        "method": cell.method,
        "seed": cell.seed,
        "started": started,
        "processes": sharing.processes.world,
        "parallel": sharing.told(cell),
        "threads": torch.get_num_threads(),
        "versions": versions(),
        "hardware": {
            "processor": processor(),
            "cores": str(os.cpu_count()),
            "memory_gb": str(round(psutil.virtual_memory().total / 1e9)),
            "system": f"{platform.system()} {platform.machine()}",
            "device": "cpu" if device == "cpu" else torch.cuda.get_device_name(device),
        },
    }


def now() -> str:
    """Return the time, UTC, to the second, in ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def versions() -> dict[str, str]:
    """Return the versions of what decides a result; a source tree that is not installed has none of its own."""
    found = {"python": platform.python_version()}
    for name in VERSIONED:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def processor() -> str:
    """Return the processor's name where Linux tells it, else the architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
