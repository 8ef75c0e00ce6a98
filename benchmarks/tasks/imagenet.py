"""ImageNet (ILSVRC 2012) from a user's own folders: top-1 accuracy on the validation images.

Deng et al., "ImageNet: A Large-Scale Hierarchical Image Database" (CVPR 2009). Read are `train/<class>/*.JPEG` and
`val/<class>/*.JPEG` below $DQSS_DATA/imagenet; the usual folder names make class numbers those of trained networks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor, nn

from benchmarks.imagefolder import FOLDERS
from benchmarks.packaged import check_training_data
from benchmarks.tasks.base import Metric, Report, Scores, Split, Task
from benchmarks.tasks.imagenet_fidelity import preprocess

CALIBRATION_SIZE = 256
VALIDATION_SIZE = 1000


@cache
def shuffled_training(root_listing: tuple[str, ...]) -> list[int]:
    """Return the positions of training images in a fixed order: by the SHA-256 of each name."""
    digests = [hashlib.sha256(name.encode()).digest() for name in root_listing]
    return sorted(range(len(digests)), key=digests.__getitem__)


def read(paths: list[Path]) -> Tensor:
    """Return (N, 3, 224, 224), the centre crops."""
    import PIL.Image

    views = []
    for path in paths:
        with PIL.Image.open(path) as image:
            views.append(preprocess(image))
    return torch.stack(views)


class Imagenet(Task):
    """Classification of ImageNet's validation images, read batch by batch. It trains nothing."""

    name = "imagenet"
    metric = Metric("top-1", "%", "points")
    output_loss = "kl"
    batch_size = 16

    def build(self, model: type[nn.Module]) -> nn.Module:
        return model(in_channels=3, classes=FOLDERS[self.name].classes)

    def check(self, split: Split) -> None:
        if split in (Split.TRAIN, Split.FINE_TUNING):
            check_training_data(self.name)
        FOLDERS[self.name].check()

    def images(self, split: Split) -> list[tuple[int, Path, int]]:
        """Return the id, file and class of each image; ids count the sorted files of `val` or of `train`."""
        if split is Split.TEST:
            return [(i, path, label) for i, (path, label) in enumerate(FOLDERS[self.name].split("val"))]
        if split in (Split.TRAIN, Split.FINE_TUNING):
            return []
        training = FOLDERS[self.name].split("train")
        order = shuffled_training(tuple(f"{path.parent.name}/{path.name}" for path, _ in training))
        start, size = (0, CALIBRATION_SIZE) if split is Split.CALIBRATION else (CALIBRATION_SIZE, VALIDATION_SIZE)
        return [(i, *training[i]) for i in order[start : start + size]]

    def ids(self, split: Split) -> list[int]:
        return [i for i, _, _ in self.images(split)]

    def inputs(self, split: Split) -> Tensor:
        return read([path for _, path, _ in self.images(split)])

    def evaluate(self, model: nn.Module, split: Split, report: Report) -> Scores:
        device = next((p.device for p in model.parameters()), torch.device("cpu"))
        images = self.images(split)
        hits: list[Tensor] = []
        with torch.inference_mode():
            for start in range(0, len(images), self.batch_size):
                batch = images[start : start + self.batch_size]
                predicted = model(read([path for _, path, _ in batch]).to(device)).argmax(1).cpu()
                hits.append(predicted == torch.tensor([label for _, _, label in batch]))
                report("evaluation", start + len(batch), len(images))
        outcomes = torch.cat(hits)
        return Scores(primary=100 * outcomes.double().mean().item(), outcomes=outcomes)

    def training_batches(self, split: Split, batch_size: int, generator: Generator) -> Iterator[tuple[Tensor, Tensor]]:
        self.check(split)
        yield from ()

    def training_loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        raise NotImplementedError("the task imagenet trains nothing")

    def training_data(self) -> dict[str, Any]:
        return {"name": "ImageNet's training images, by whoever trained the network"}
