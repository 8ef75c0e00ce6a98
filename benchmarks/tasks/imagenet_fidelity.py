"""Fidelity to full precision on photographs: how often a quantized ImageNet network names the same class.

The photographs are those that a few Python packages bring: twenty of ImageNet's classes (foolbox) are evaluated, in
VIEWS views each; others, of scikit-image, scikit-learn and matplotlib, calibrate. Views of one photograph are alike, so
the evidence is that of 20 photographs, not of as many as there are views.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy
import torch
from torch import Generator, Tensor, nn

from benchmarks.packaged import PHOTOGRAPHS, PackagedFile, check_data, check_training_data
from benchmarks.tasks.base import Metric, Report, Scores, Split, Task
from dqss.matching import kl

if TYPE_CHECKING:
    from PIL.Image import Image

SIDE = 224
SHORT_SIDE = 256
MEAN, DEVIATION = 127.0, 128.0
VIEWS = ((0.5, 0.5, False), (0.0, 0.0, False), (1.0, 0.0, True), (0.0, 1.0, True), (1.0, 1.0, False))
"""Where the crop lies between left and right, between top and bottom, and whether it is flipped; the first is the
usual centre crop."""


def preprocess(image: Image, horizontal: float = 0.5, vertical: float = 0.5, flip: bool = False) -> Tensor:
    """Return (3, 224, 224) float32: short side 256 by bicubic interpolation, a crop of 224, (rgb - 127) / 128."""
    from PIL.Image import Resampling

    ratio = SHORT_SIDE / min(image.size)
    width, height = (round(side * ratio) for side in image.size)
    left, top = round((width - SIDE) * horizontal), round((height - SIDE) * vertical)
    resized = image.convert("RGB").resize((width, height), Resampling.BICUBIC)
    pixels = numpy.asarray(resized.crop((left, top, left + SIDE, top + SIDE)), dtype=numpy.float32)
    view = (torch.from_numpy(pixels).permute(2, 0, 1) - MEAN) / DEVIATION
    return view.flip(2) if flip else view.contiguous()


@cache
def views_of(files: tuple[PackagedFile, ...]) -> Tensor:
    """Return (N * VIEWS, 3, 224, 224), the views of one photograph after another's."""
    import PIL.Image

    views = []
    for file in files:
        with PIL.Image.open(file.locate()) as image:
            views += [preprocess(image, *view) for view in VIEWS]
    return torch.stack(views)


class ImagenetFidelity(Task):
    """Agreement with the full-precision model's top class, and the divergence of the class scores."""

    name = "imagenet-fidelity"
    metric = Metric("top-1 agreement", "%", "points")
    output_loss = "kl"
    batch_size = 16

    def __init__(self) -> None:
        self.reference: Tensor | None = None

    def build(self, model: type[nn.Module]) -> nn.Module:
        return model(in_channels=3, classes=1000)

    def files(self, split: Split) -> tuple[PackagedFile, ...]:
        """Return the split's photographs."""
        photographs = PHOTOGRAPHS[self.name]
        return {
            Split.TRAIN: (),
            Split.FINE_TUNING: (),
            Split.CALIBRATION: photographs.calibration,
            Split.VALIDATION: photographs.validation,
            Split.TEST: photographs.test,
        }[split]

    def check(self, split: Split) -> None:
        if split in (Split.TRAIN, Split.FINE_TUNING):
            check_training_data(self.name)
        check_data(self.name)

    def ids(self, split: Split) -> list[int]:
        return list(range(len(self.files(split)) * len(VIEWS)))

    def inputs(self, split: Split) -> Tensor:
        self.check(split)
        return views_of(self.files(split))

    def take_reference(self, model: nn.Module, report: Report) -> None:
        self.reference = self._logits(model, self.inputs(Split.TEST), report)

    def evaluate(self, model: nn.Module, split: Split, report: Report) -> Scores:
        if self.reference is None or split is not Split.TEST:
            raise ValueError(
                f"split: {split.value} is evaluated against full precision. Give the test split, after take_reference."
            )
        logits = self._logits(model, self.inputs(split), report)
        agreed = logits.argmax(1) == self.reference.argmax(1)
        labels = torch.tensor([int(file.path.rpartition("_")[2].removesuffix(".jpg")) for file in self.files(split)])
        right = logits[:: len(VIEWS)].argmax(1) == labels
        return Scores(
            primary=100 * agreed.double().mean().item(),
            outcomes=agreed,
            measures={
                "logit KL to full precision, nats": kl(logits, self.reference).item(),
                "top-1 of the labelled centre crops, %": 100 * right.double().mean().item(),
            },
        )

    def _logits(self, model: nn.Module, inputs: Tensor, report: Report) -> Tensor:
        device = next((p.device for p in model.parameters()), torch.device("cpu"))
        found: list[Tensor] = []
        with torch.inference_mode():
            for batch in inputs.split(self.batch_size):
                found.append(model(batch.to(device)).cpu())
                report("evaluation", sum(map(len, found)), len(inputs))
        return torch.cat(found)

    def training_batches(self, split: Split, batch_size: int, generator: Generator) -> Iterator[tuple[Tensor, Tensor]]:
        self.check(split)
        yield from ()

    def training_loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        raise NotImplementedError("imagenet-fidelity trains nothing")

    def training_data(self) -> dict[str, Any]:
        return {"name": "ImageNet's training images, by whoever trained the network"}
