"""Image classification: top-1 accuracy in percent, one truth value per image."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import ClassVar

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from benchmarks.tasks.base import Metric, Report, Scores, Split, Task, shuffled

# Small enough that a layer's activations stay in the processor's cache.
EVALUATION_BATCH = 64
CROP_MARGIN = 2
LABEL_SMOOTHING = 0.05


def augment(images: Tensor, generator: Generator) -> Tensor:
    """Return the batch with each image flipped at random and shifted by up to CROP_MARGIN pixels, zeros coming in.

    Args:
        images: (B, C, H, W), any type.
    """
    batch, channels, height, width = images.shape
    flip = torch.rand(batch, generator=generator) < 0.5
    images = torch.where(flip.view(-1, 1, 1, 1), images.flip(3), images)
    padded = F.pad(images, (CROP_MARGIN,) * 4)
    offsets = torch.randint(0, 2 * CROP_MARGIN + 1, (2, batch, 1), generator=generator)
    rows = offsets[0] + torch.arange(height)
    columns = offsets[1] + torch.arange(width)
    index = torch.arange(batch).view(-1, 1, 1, 1), torch.arange(channels).view(1, -1, 1, 1)
    return padded[index[0], index[1], rows[:, None, :, None], columns[:, None, None, :]]


class Classification(Task):
    """A classification task; a subclass brings the images and labels of its splits."""

    metric = Metric("top-1", "%", "points")
    output_loss = "kl"
    in_channels: ClassVar[int]
    classes: ClassVar[int]
    mean: ClassVar[float]
    std: ClassVar[float]

    @abstractmethod
    def data(self, split: Split) -> tuple[Tensor, Tensor]:
        """Return (N, C, H, W) uint8 images and (N,) int64 labels; raise MissingDataError where they are not."""

    def build(self, model: type[nn.Module]) -> nn.Module:
        return model(in_channels=self.in_channels, classes=self.classes)

    def preprocess(self, images: Tensor) -> Tensor:
        """Return uint8 images as float32, scaled to [0, 1] and normalised by the training set's mean and deviation."""
        return (images.float() / 255 - self.mean) / self.std

    def inputs(self, split: Split) -> Tensor:
        return self.preprocess(self.data(split)[0])

    def evaluate(self, model: nn.Module, split: Split, report: Report) -> Scores:
        images, labels = self.data(split)
        device = next((p.device for p in model.parameters()), torch.device("cpu"))
        hits = []
        with torch.inference_mode():
            for start in range(0, len(images), EVALUATION_BATCH):
                batch = slice(start, start + EVALUATION_BATCH)
                predicted = model(self.preprocess(images[batch].to(device))).argmax(1)
                hits.append(predicted.cpu() == labels[batch])
                report("evaluation", min(start + EVALUATION_BATCH, len(images)), len(images))
        outcomes = torch.cat(hits)
        # Of whole numbers, so that 8877 of 10000 is 88.77 and not the double after it.
        return Scores(primary=100 * int(outcomes.sum()) / len(outcomes), outcomes=outcomes)

    def training_batches(self, split: Split, batch_size: int, generator: Generator) -> Iterator[tuple[Tensor, Tensor]]:
        images, labels = self.data(split)
        for chosen in shuffled(split, len(images), batch_size, generator):
            yield self.preprocess(augment(images[chosen], generator)), labels[chosen]

    def training_loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(outputs, targets, label_smoothing=LABEL_SMOOTHING)
