"""The losses of all strategies of a small space on calibration data: a file to score searches by, and how it is made.

    python -m benchmarks.loss_table

walks the tree of all strategies (dqss/search/exhaustive.py) of resnet8 with two candidates of each kind, and writes
`benchmarks/data/losses/`. Its options make other tables. To read a table takes no torch.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy
from pydantic import BaseModel, ConfigDict, ValidationError

from benchmarks.records import shortened
from benchmarks.storage import write_atomically

if TYPE_CHECKING:
    from dqss.search.base import Report, SearchProblem

FOLDER = Path(__file__).parent / "data" / "losses"
SHIPPED = FOLDER / "resnet8-W4A4.json"
MOST_STRATEGIES = 5_000_000
AGAIN = "Make it again with `python -m benchmarks.loss_table`."


class LossTableError(RuntimeError):
    """A table that cannot be used; the message says why and what to do."""


class TableFacts(BaseModel):
    """What fixes a table's losses, and what it took to make them: the JSON beside the array.

    Args:
        checkpoint: SHA-256 of the weights' file.
        weight: name -> version of each weight candidate, in their order.
        activation: likewise.
        images: how many of the task's calibration images, the first ones; calibration saw these alone.
        batch: how many images per batch of calibration.
        ids: of the images in the source data set.
        layers: in the order of the digits of a strategy's position, the first the most significant.
        sha256: of the array's file.
        best: the position of the least loss.
        best_loss: that loss over all images.
        seconds: of one thread's processor time.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    task: str
    model: str
    checkpoint: str
    bits: str
    protocol: str
    weight: dict[str, int]
    activation: dict[str, int]
    images: int
    batch: int
    ids: list[int] | str
    layers: list[str]
    sha256: str
    best: int
    best_loss: float
    seconds: float
    versions: dict[str, str]
    processor: str


@dataclass(frozen=True)
class LossTable:
    """A table.

    Args:
        losses: (batches, S) float32, each batch's loss under each strategy, in the order that
            `dqss.search.exhaustive.batch_losses` has.
    """

    facts: TableFacts
    losses: numpy.ndarray[Any, numpy.dtype[numpy.float32]]

    @property
    def whole(self) -> numpy.ndarray[Any, numpy.dtype[numpy.float64]]:
        """(S,), the loss over all images of each strategy."""
        return over_all(self.losses, self.facts.images, self.facts.batch)


def over_all(
    losses: numpy.ndarray[Any, Any], images: int, batch: int
) -> numpy.ndarray[Any, numpy.dtype[numpy.float64]]:
    """Return (S,), the mean over images of (batches, S) losses of batches; the last may be smaller."""
    sizes = [min(batch, images - start) for start in range(0, images, batch)]
    mean: numpy.ndarray[Any, numpy.dtype[numpy.float64]] = numpy.array(sizes) / images @ losses.astype(numpy.float64)
    return mean


def read_table(path: Path = SHIPPED) -> LossTable:
    """Read a table from its JSON and the array beside it.

    Raises:
        LossTableError: not readable, or the two files do not belong together.
    """
    try:
        facts = TableFacts.model_validate_json(path.read_bytes())
        content = path.with_suffix(".npz").read_bytes()
    except (OSError, ValidationError) as error:
        raise LossTableError(f"{path}: not readable ({_first_line(error)}). {AGAIN}") from error
    if hashlib.sha256(content).hexdigest() != facts.sha256:
        raise LossTableError(f"{path.with_suffix('.npz')}: not the file that {path.name} describes. {AGAIN}")
    with numpy.load(io.BytesIO(content), allow_pickle=False) as arrays:
        return LossTable(facts, arrays["losses"])


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]


def posed(
    task: str,
    model: str,
    bits: str,
    protocol: str,
    weight: list[str],
    activation: list[str],
    images: int,
    batch: int,
) -> tuple[SearchProblem, str]:
    """Return the search problem of a table on the first calibration images, and its checkpoint's SHA-256."""
    from benchmarks.checkpoints import find_checkpoint, load_model
    from benchmarks.tasks import TASKS
    from benchmarks.tasks.base import Split
    from dqss.calibrate import calibrate
    from dqss.graph import prepare
    from dqss.ptq import pose, protocol_of
    from dqss.quantizers import QUANTIZERS
    from dqss.search.base import no_report
    from dqss.spec import Bits

    made = TASKS.create(task)
    checkpoint = find_checkpoint(model, task)
    prepared = prepare(load_model(model, made, checkpoint), protocol_of(protocol), Bits.parse(bits))
    batches = made.inputs(Split.CALIBRATION)[:images].split(batch)
    weights, activations = ({name: QUANTIZERS.create(name) for name in names} for names in (weight, activation))
    calibration = calibrate(prepared, batches, no_report)
    return pose(prepared, calibration, batches, weights, activations, made.output_loss), checkpoint.sha256


def main(argv: Sequence[str] | None = None) -> int:
    """Make a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="fashion-mnist")
    parser.add_argument("--model", default="resnet8")
    parser.add_argument("--bits", default="W4A4")
    parser.add_argument("--protocol", default="all-layers")
    parser.add_argument("--weight", default="minmax,percentile", help="weight candidates")
    parser.add_argument("--activation", default="mse,kl", help="activation candidates")
    parser.add_argument("--images", type=int, default=64, help="calibration images, the first ones")
    parser.add_argument("--batch", type=int, default=8, help="images per batch")
    parser.add_argument("--dest", type=Path, default=SHIPPED, help="the JSON file; the array is put beside it")
    args = parser.parse_args(argv)

    from benchmarks.cell import processor, versions
    from benchmarks.tasks import TASKS
    from benchmarks.tasks.base import Split
    from dqss.quantizers import QUANTIZERS
    from dqss.search.exhaustive import batch_losses, strategies

    weight, activation = args.weight.split(","), args.activation.split(",")
    if args.images < 1 or args.batch < 1:
        parser.error(f"--images {args.images} --batch {args.batch} is not allowed. Give at least 1 of each.")
    try:
        problem, checkpoint = posed(
            args.task, args.model, args.bits, args.protocol, weight, activation, args.images, args.batch
        )
    except (ValueError, RuntimeError) as error:
        parser.error(str(error))
    known = sum(len(target) for target in problem.calibration.targets)
    if known < args.images:
        parser.error(f"--images {args.images} is not allowed. The calibration set has {known}.")
    if strategies(problem) > MOST_STRATEGIES:
        parser.error(
            f"{strategies(problem):,} strategies are too many, above {MOST_STRATEGIES:,}. Name fewer candidates."
        )
    started = time.process_time()
    losses = batch_losses(problem, _percents()).float().numpy()
    seconds = time.process_time() - started
    mean = over_all(losses, args.images, args.batch)
    content = io.BytesIO()
    numpy.savez_compressed(content, losses=losses)
    facts = TableFacts(
        task=args.task,
        model=args.model,
        checkpoint=checkpoint,
        bits=args.bits,
        protocol=args.protocol,
        weight={name: QUANTIZERS.entry(name).version for name in weight},
        activation={name: QUANTIZERS.entry(name).version for name in activation},
        images=args.images,
        batch=args.batch,
        ids=shortened(TASKS.create(args.task).ids(Split.CALIBRATION)[: args.images]),
        layers=list(problem.layers),
        sha256=hashlib.sha256(content.getvalue()).hexdigest(),
        best=int(mean.argmin()),
        best_loss=float(mean.min()),
        seconds=round(seconds, 1),
        versions=versions(),
        processor=processor(),
    )
    args.dest.parent.mkdir(parents=True, exist_ok=True)
    args.dest.with_suffix(".npz").write_bytes(content.getvalue())
    write_atomically(args.dest, facts.model_dump_json(indent=1) + "\n")
    print(
        f"{args.dest}: {len(mean)} strategies in {seconds / 60:.1f} minutes, the best with a loss of {mean.min():.5f}"
    )
    return 0


def _percents() -> Report:
    """Return a report that prints a line at each whole percent."""
    shown = -1

    def report(stage: str, done: int, total: int) -> None:
        nonlocal shown
        if 100 * done // total > shown:
            shown = 100 * done // total
            print(f"{shown} %", file=sys.stderr, flush=True)

    return report


if __name__ == "__main__":
    sys.exit(main())
