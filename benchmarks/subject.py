"""A task's model under a protocol, loaded and calibrated: what the cells of both modes begin with."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from benchmarks.checkpoints import find_checkpoint, load_model
from benchmarks.meter import Meter
from benchmarks.suite import Cell
from benchmarks.tasks.base import Report, Split, Task
from dqss.calibrate import Calibration, calibrate
from dqss.graph import Prepared, prepare
from dqss.ranges import Start, find_start
from dqss.search import DETERMINISTIC
from dqss.spec import Bits


@dataclass(frozen=True)
class Calibrated:
    """A task's model under a protocol, calibrated once for all of its cells. It has seen no test image.

    Args:
        prepared: at some bits; `at` brings it to a cell's.
        batches: calibration inputs, on the model's device.
        seconds: of the one pass over them.
        starts: (bits, search, seed) -> what training begins with, and what finding it took.
    """

    task: Task
    prepared: Prepared
    batches: tuple[Tensor, ...]
    calibration: Calibration
    seconds: float
    starts: dict[tuple[str, str, int | None], tuple[Start, Meter]] = field(default_factory=dict)

    @classmethod
    def of(cls, cell: Cell, task: Task, network: nn.Module, report: Report) -> Calibrated:
        """Prepare and calibrate a network that `loaded` returned."""
        prepared = prepare(network, cell.protocol_definition, Bits.parse(cell.bits))
        device = next((parameter.device for parameter in network.parameters()), torch.device("cpu"))
        batches = task.inputs(Split.CALIBRATION).to(device).split(task.batch_size)
        with Meter() as meter:
            calibration = calibrate(prepared, batches, report)
        return cls(task, prepared, batches, calibration, meter.seconds)

    def at(self, bits: str) -> Prepared:
        """Return the prepared model at these bits."""
        return self.prepared.at(Bits.parse(bits))

    def start(self, bits: str, search: str, seed: int, report: Report) -> tuple[Start, Meter]:
        """Return what training begins with, and what finding it took, alike for all cells that share it.

        Args:
            bits: of the cell.
            search: one of dqss.ranges.STARTS.
            seed: of the search.
            report: called as the search goes on.
        """
        key = (bits, search, None if search in DETERMINISTIC else seed)
        if key not in self.starts:
            given = self.at(bits), self.calibration, self.batches, search, seed, self.task.output_loss
            with Meter() as meter:
                found = find_start(*given, renamed(report, "start"))
            self.starts[key] = found, meter
        return self.starts[key]


def loaded(cell: Cell, task: Task, device: torch.device) -> nn.Module:
    """Return a cell's network with the weights of its checkpoint."""
    network = load_model(cell.model, task, find_checkpoint(cell.model, cell.task)).to(device)
    # Faster on a CPU and on a GPU; the annotations of torch do not know of it.
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network


def renamed(report: Report, stage: str) -> Report:
    """Return a report that tells every stage as this one."""
    return lambda _, done, total: report(stage, done, total)
