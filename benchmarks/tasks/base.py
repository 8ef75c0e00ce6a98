"""What a task is: data in named splits, a metric, and the evaluation of a model."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor, nn

from benchmarks.datasets import MissingDataError as MissingDataError
from benchmarks.records import Pictures

Report = Callable[[str, int, int], None]
"""Called with a stage's name, the steps done and the steps in all."""


class Split(Enum):
    """Named parts of a task's data. Only `TEST` may decide a score, and it may decide nothing else.

    `TRAIN` is what checkpoints are trained on, `FINE_TUNING` what quantization-aware training learns from: labelled, it
    comes with the package, and calibration images may be in it, search-validation images never.
    """

    TRAIN = "train"
    FINE_TUNING = "fine-tuning"
    CALIBRATION = "calibration"
    VALIDATION = "search-validation"
    TEST = "test"


@dataclass(frozen=True)
class Metric:
    """The task's primary metric.

    Args:
        name: as a reader calls it ("top-1").
        unit: of the score ("%").
        difference_unit: of a difference of two scores ("points").
    """

    name: str
    unit: str
    difference_unit: str


@dataclass(frozen=True)
class Scores:
    """The outcome of an evaluation.

    Args:
        primary: the task's metric over the split.
        outcomes: (N,), one number or truth value per image, in the split's order.
        measures: what else was measured: a name with its unit -> its value.
        pictures: a part of one image to look at, where there is something to see.
    """

    primary: float
    outcomes: Tensor
    measures: dict[str, float] = field(default_factory=dict)
    pictures: Pictures | None = None


class Task(ABC):
    """Data, metric and evaluation of one benchmark task. Inputs are batches of float32 images, ready for the model."""

    name: str
    metric: ClassVar[Metric]
    output_loss: ClassVar[str]
    """How searches compare outputs with full-precision ones: a name of dqss.matching.OUTPUT_LOSSES."""
    batch_size: ClassVar[int] = 64
    """How many images calibration and searches take at a time."""

    @abstractmethod
    def build(self, model: type[nn.Module]) -> nn.Module:
        """Return a freshly initialised network of this class, shaped for the task."""

    @abstractmethod
    def check(self, split: Split) -> None:
        """Raise MissingDataError unless the split's data is on this machine, or where the task has no such split."""

    @abstractmethod
    def ids(self, split: Split) -> list[int]:
        """Return the ids of the split's images in the source data set, in order."""

    @abstractmethod
    def inputs(self, split: Split) -> Tensor:
        """Return (N, C, H, W), the split's preprocessed inputs, unlabelled."""

    def take_reference(self, model: nn.Module, report: Report) -> None:  # noqa: B027
        """Take the full-precision model, once, before any evaluation; for metrics that compare with its outputs."""

    @abstractmethod
    def evaluate(self, model: nn.Module, split: Split, report: Report) -> Scores:
        """Return the scores of a model in eval mode on a split."""

    @abstractmethod
    def training_batches(self, split: Split, batch_size: int, generator: Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield one epoch of augmented (inputs, targets) batches, shuffled; `shuffled` says which images each has.

        Args:
            split: TRAIN or FINE_TUNING.
            batch_size: of all processes together.
            generator: gives order and augmentation.

        Raises:
            MissingDataError: the split's data is not on this machine, or the task trains nothing.
        """

    @abstractmethod
    def training_loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the scalar loss that training minimises."""

    @abstractmethod
    def training_data(self) -> dict[str, Any]:
        """Return what the full training data is, for a checkpoint's JSON: source, hashes and preprocessing."""


def shuffled(split: Split, count: int, batch_size: int, generator: Generator) -> Iterator[Tensor]:
    """Yield the positions of each batch's images, every one once an epoch.

    In fine-tuning a last batch that is not full is left out: processes take equal parts of each batch, and a step of
    few images would count as much as one of many.

    >>> [len(batch) for batch in shuffled(Split.TRAIN, 10, 4, Generator())]
    [4, 4, 2]
    >>> [len(batch) for batch in shuffled(Split.FINE_TUNING, 10, 4, Generator())]
    [4, 4]
    """
    for batch in torch.randperm(count, generator=generator).split(batch_size):
        if split is Split.TRAIN or len(batch) == batch_size:
            yield batch


def generator_of(seed: int, epoch: int) -> Generator:
    """Return the generator of an epoch's order and augmentation, alike for every method of a seed."""
    digest = hashlib.sha256(f"{seed}/{epoch}".encode()).digest()
    return Generator().manual_seed(int.from_bytes(digest[:4], "big"))
