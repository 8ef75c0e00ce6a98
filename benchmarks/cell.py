"""Run one cell, from its definition to its record."""

from __future__ import annotations

import os
import platform
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import torch
from torch import Tensor

from benchmarks.checkpoints import find_checkpoint, load_model
from benchmarks.launch import Processes
from benchmarks.meter import Meter
from benchmarks.methods import METHODS
from benchmarks.records import LayerChoice, LayerFacts, MetricFacts, Outcomes, Record, entropy, shortened
from benchmarks.suite import Cell
from benchmarks.tasks import TASKS
from benchmarks.tasks.base import Report, Scores, Split, Task
from dqss.calibrate import Calibration, calibrate
from dqss.candidates import activation_candidate, plain_name, weight_candidate
from dqss.cost import bit_operations, size_bytes
from dqss.graph import Prepared, prepare
from dqss.ptq import pose, quantize
from dqss.reconstruction import RECONSTRUCTIONS
from dqss.search.base import Found, Search, SearchProblem
from dqss.spec import Bits
from dqss.sqnr import layer_sqnr
from dqss.strategy import Strategy
from dqss.weights import moments_of, reconstruct

VERSIONED = ("dqss-bench", "torch", "numpy", "optuna")


class Reconstructed(NamedTuple):
    """What a cell's reconstructions cost: wall time, None where it has none, and images sent through the network."""

    seconds: float | None
    images: int


@dataclass
class Subject:
    """A task's model under a protocol: loaded, measured in full precision and calibrated once for all of its cells.

    Args:
        prepared: at some bits; `problem` brings it to the cell's.
        calibration_seconds: of the one pass over the calibration set.
        grids_seconds: of working out the candidates of the latest problem.
        problems: (bits, candidates) -> the search problem, shared by the methods of those bits.
        reconstruction_seconds: (bits, name) -> what making the candidates took, of which cells share the weights.
        scores: strategy as JSON -> test scores. The same strategy is the same model, so it is evaluated once.
    """

    task: Task
    prepared: Prepared
    batches: tuple[Tensor, ...]
    calibration: Calibration
    calibration_seconds: float
    full_precision_score: float
    image: Tensor
    problems: dict[tuple[Any, ...], SearchProblem] = field(default_factory=dict)
    grids_seconds: float = 0.0
    reconstruction_seconds: dict[tuple[str, str], float] = field(default_factory=dict)
    scores: dict[str, tuple[Scores, float]] = field(default_factory=dict)

    @classmethod
    def of(cls, cell: Cell, device: torch.device, report: Report) -> Subject:
        """Load, evaluate and calibrate a cell's model."""
        task = TASKS.create(cell.task)
        checkpoint = find_checkpoint(cell.model, cell.task)
        network = load_model(cell.model, task, checkpoint).to(device)
        # Faster on a CPU and on a GPU; the annotations of torch do not know of it.
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        task.take_reference(network, _renamed(report, "full-precision outputs"))
        full_precision = task.evaluate(network, Split.TEST, _renamed(report, "full-precision evaluation"))
        prepared = prepare(network, cell.protocol_definition, Bits.parse(cell.bits))
        batches = task.inputs(Split.CALIBRATION).to(device).split(task.batch_size)
        with Meter() as meter:
            calibration = calibrate(prepared, batches, report)
        return cls(task, prepared, batches, calibration, meter.seconds, full_precision.primary, image=batches[0][:1])

    def reconstruct(self, cell: Cell, report: Report) -> Reconstructed:
        """Make the cell's reconstructed weights; those that an earlier cell made are taken over, and count alike."""
        names = {plain_name(name) for name in cell.weight_quantizers} & set(RECONSTRUCTIONS)
        if not names:
            return Reconstructed(None, 0)
        prepared = self.prepared.at(Bits.parse(cell.bits))
        keys = [("any", "second moments"), *((cell.bits, name) for name in sorted(names))]
        for key in keys:
            if key not in self.reconstruction_seconds:
                with Meter() as meter:
                    if key[1] in RECONSTRUCTIONS:
                        reconstruct([RECONSTRUCTIONS.create(key[1])], prepared, self.calibration, report)
                    else:
                        moments_of(prepared, self.calibration)
                self.reconstruction_seconds[key] = meter.seconds
        images = sum(len(target) for target in self.calibration.targets)
        return Reconstructed(sum(self.reconstruction_seconds[key] for key in keys), images)

    def problem(self, cell: Cell) -> SearchProblem:
        """Return the search problem of the cell, fresh for one search."""
        key = (cell.bits, cell.weight_quantizers, cell.activation_quantizers)
        if key not in self.problems:
            with Meter() as meter:
                posed = pose(
                    self.prepared.at(Bits.parse(cell.bits)),
                    self.calibration,
                    self.batches,
                    {name: weight_candidate(name) for name in cell.weight_quantizers},
                    {name: activation_candidate(name) for name in cell.activation_quantizers},
                    self.task.output_loss,
                )
            # Only the latest bits are kept: cells come ordered by them.
            self.problems, self.grids_seconds = {key: posed}, meter.seconds
        return self.problems[key].fresh(cell.seed or 0)

    def evaluate(self, problem: SearchProblem, strategy: Strategy, report: Report) -> tuple[Scores, float]:
        """Return the strategy's scores on the test split and the seconds that took."""
        key = strategy.to_json()
        if key not in self.scores:
            with Meter() as meter:
                quantized = quantize(problem.prepared, problem.calibration, strategy)
                scores = self.task.evaluate(quantized, Split.TEST, report)
            self.scores[key] = (scores, meter.seconds)
        return self.scores[key]


class Context:
    """What the cells of one process share: the device, and the subject of the latest cell.

    Cells come ordered by model and protocol, so one subject at a time is kept.
    """

    def __init__(self, processes: Processes) -> None:
        self.processes = processes
        self.device = torch.device(processes.device())
        self._key: tuple[Any, ...] | None = None
        self._subject: Subject | None = None

    def subject(self, cell: Cell, report: Report) -> Subject:
        """Return the cell's subject, made anew only where model or protocol differ from the latest cell's."""
        key = (cell.task, cell.model, cell.definition["model"]["checkpoint"], cell.protocol_definition)
        if self._subject is None or key != self._key:
            self._subject = None
            self._subject, self._key = Subject.of(cell, self.device, report), key
        return self._subject


def run_cell(cell: Cell, context: Context, report: Report) -> Record:
    """Search a strategy on the calibration set, evaluate it on the test set and return the record."""
    started = now()
    subject = context.subject(cell, report)
    reconstructed = subject.reconstruct(cell, report)
    problem = subject.problem(cell)
    torch.manual_seed(problem.seed)
    with Meter() as meter:
        found = search_of(cell).search(problem, report)
    scores, evaluation_seconds = subject.evaluate(problem, found.strategy, report)
    return Record(
        **identity(cell, started, context.processes),
        status="ok",
        metric=MetricFacts(**asdict(subject.task.metric)),
        score=scores.primary,
        full_precision_score=subject.full_precision_score,
        measures=scores.measures,
        calibration_loss=found.calibration_loss,
        relaxed_loss=found.relaxed_loss,
        discretized_loss=found.discretized_loss,
        search_seconds=meter.seconds + (reconstructed.seconds or 0),
        reconstruction_seconds=reconstructed.seconds,
        calibration_seconds=subject.calibration_seconds + subject.grids_seconds,
        evaluation_seconds=evaluation_seconds,
        forward_passes=problem.cost.forward_passes + reconstructed.images,
        peak_memory_mb=meter.peak_memory_mb,
        size_bytes=size_bytes(problem.prepared),
        bops=bit_operations(problem.prepared, subject.image),
        strategy={
            name: LayerChoice(weight=choice.weight, activation=choice.activation, bits=str(choice.bits))
            for name, choice in found.strategy.layers.items()
        },
        layers=_layer_facts(problem, found),
        curves=found.curves,
        outcomes=Outcomes.pack(scores.outcomes.cpu().numpy()),
        pictures=scores.pictures,
        ids={split.value: shortened(subject.task.ids(split)) for split in Split},
    )


def search_of(cell: Cell) -> Search:
    """Return the cell's search with its options."""
    return METHODS.create(cell.search, cell.options)


def identity(cell: Cell, started: str, processes: Processes) -> dict[str, Any]:
    """Return the fields of a record that say which cell it is of, and where and when it ran."""
    device = processes.device()
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
        "processes": processes.world,
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


def _renamed(report: Report, stage: str) -> Report:
    return lambda _, done, total: report(stage, done, total)


def _layer_facts(problem: SearchProblem, found: Found) -> dict[str, LayerFacts]:
    facts = {}
    for name, (weight, activation) in layer_sqnr(problem.prepared, problem.calibration, found.strategy).items():
        alpha = found.alpha[name] if found.alpha else (None, None)
        facts[name] = LayerFacts(
            weight_sqnr_db=weight,
            activation_sqnr_db=activation,
            alpha_weight=alpha[0],
            alpha_activation=alpha[1],
            entropy_weight=entropy(alpha[0]),
            entropy_activation=entropy(alpha[1]),
        )
    return facts
