"""Super-resolution of luma: PSNR in dB, one number per photograph.

High-resolution photographs become BT.601 studio luma of 8 bits (MATLAB's rgb2ycbcr), cropped to a multiple of the
scale. Low-resolution ones are made of these by bicubic interpolation with antialias, rounded to 8 bits. Networks take
and give luma / 255. Scores are of the output rounded to 8 bits, without a border of `scale` pixels, as is usual since
Timofte et al., "A+" (ACCV 2014).

Training, calibration and validation patches are cut from the shipped crops of photographs; low resolution is made of
the whole crop before, so that no patch has a border of its own.
"""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy
import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from benchmarks.datasets import EMBEDDED, PHOTOS, check_embedded, embedded_sums
from benchmarks.packaged import check_data
from benchmarks.records import Pictures
from benchmarks.showcase import pictures_of
from benchmarks.tasks.base import Metric, Report, Scores, Split, Task, shuffled
from benchmarks.tiling import reach, upscale

CROP = 192
CALIBRATION_SIZE = 96
VALIDATION_SIZE = 64
CALIBRATION_PATCH = 32
"""Side of low-resolution patches for calibration and validation, in pixels."""
TRAINING_PATCH = 96
"""Side of high-resolution patches for training, in pixels."""
PATCHES_PER_CROP = 4
SSIM_WINDOW = 11
BEST_PSNR = 100.0
"""Of an output without any error, in dB; else it would be infinite."""


def luma(rgb: Tensor) -> Tensor:
    """Return (H, W) BT.601 studio luma, 16 to 235, of (H, W, 3), both uint8; rounded half up, of whole numbers."""
    red, green, blue = rgb.long().unbind(2)
    return ((65481 * red + 128553 * green + 24966 * blue + 16 * 255_000 + 127_500) // 255_000).to(torch.uint8)


def read_luma(path: Path) -> Tensor:
    """Return (H, W) uint8, the luma of an image file; a grey image counts as one of equal red, green and blue.

    Raises:
        ValueError: it is broken or no image, or its grey levels have more than 8 bits; the message names it.
    """
    import PIL.Image

    try:
        with PIL.Image.open(path) as image:
            # Pillow would cut off all levels above 255.
            if image.mode.startswith(("I", "F")):
                raise ValueError(f"{path}: its grey levels have more than 8 bits. Convert it to 8.")
            rgb = image.convert("RGB")
    except (OSError, SyntaxError) as error:
        raise ValueError(f"{path}: cannot be read as an image ({error}). Get it again.") from error
    return luma(torch.from_numpy(numpy.array(rgb)))


def downscaled(images: Tensor, scale: int) -> Tensor:
    """Return low-resolution images: bicubic interpolation with antialias, rounded to 8 bits.

    Args:
        images: (N, 1, H, W), uint8; H and W are multiples of the scale.
        scale: a whole factor.
    """
    size = (images.shape[2] // scale, images.shape[3] // scale)
    small = F.interpolate(images.double(), size=size, mode="bicubic", antialias=True)
    return small.round().clamp(0, 255).to(torch.uint8)


def interior(image: Tensor, border: int) -> Tensor:
    """Return (..., H, W) without a border of that many pixels."""
    return image[..., border : image.shape[-2] - border, border : image.shape[-1] - border]


def psnr(image: Tensor, target: Tensor) -> float:
    """Return the peak signal-to-noise ratio in dB, at most BEST_PSNR.

    Args:
        image: (1, 1, H, W), in levels of 8 bits.
        target: likewise.
    """
    from torchmetrics.functional.image import peak_signal_noise_ratio

    return min(peak_signal_noise_ratio(image.double(), target.double(), data_range=255.0).item(), BEST_PSNR)


def ssim(image: Tensor, target: Tensor) -> float:
    """Return the structural similarity (Wang et al., 2004): Gaussian windows of 11 pixels, deviation 1.5.

    It is the mean over the windows that lie in the image as a whole, in float32: exact to about 2e-5, and ten times as
    fast as in float64.

    Args:
        image: (1, 1, H, W), in levels of 8 bits; at least 11 pixels high and wide.
        target: likewise.
    """
    from torchmetrics.functional.image import structural_similarity_index_measure as similarity

    # Its own mean counts windows over mirrored borders too.
    _, windows = similarity(image.float(), target.float(), sigma=1.5, data_range=255.0, return_full_image=True)
    return interior(windows, SSIM_WINDOW // 2).double().mean().item()


@dataclass(frozen=True)
class Crops:
    """The shipped crops of a split's photographs.

    Args:
        images: (N, 1, CROP, CROP), uint8 luma, in the order of the photographs' names.
        order: a fixed order of them: by the SHA-256 of each one's photograph and place in it.
    """

    images: Tensor
    order: list[int]


@cache
def read_crops(part: str) -> Crops:
    """Return the crops of a part of the shipped photographs, `train` or `validation`."""
    import PIL.Image

    crops: list[Tensor] = []
    digests = []
    for path in sorted((EMBEDDED / PHOTOS / part).glob("*.png")):
        with PIL.Image.open(path) as image:
            stacked = torch.from_numpy(numpy.array(image)).view(-1, 1, CROP, CROP)
        crops.append(stacked)
        digests += [hashlib.sha256(f"{PHOTOS}/{part}/{path.stem}/{i}".encode()).digest() for i in range(len(stacked))]
    return Crops(torch.cat(crops), sorted(range(len(digests)), key=digests.__getitem__))


class Bicubic(nn.Module):
    """Bicubic interpolation, the baseline; Keys's kernel with a = -0.5, as MATLAB and Pillow have it.

    Args:
        scale: a whole factor.
    """

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, images: Tensor) -> Tensor:
        size = (images.shape[2] * self.scale, images.shape[3] * self.scale)
        # Without antialias, PyTorch's kernel has a = -0.75; when enlarging, antialias does nothing else.
        return F.interpolate(images, size=size, mode="bicubic", antialias=True)


@dataclass(frozen=True)
class Reference:
    """What the full-precision network gave on the test photographs.

    Args:
        outputs: per photograph (1, 1, H, W) float16, luma / 255 within [0, 1]; exact to 0.06 of a level.
        halo: the network's reach.
    """

    outputs: list[Tensor]
    halo: int | None


class SuperResolution(Task):
    """A super-resolution task; a subclass brings its scale and its test photographs."""

    metric = Metric("PSNR", "dB", "dB")
    output_loss = "mse"
    batch_size = 8
    scale: int

    def __init__(self) -> None:
        self.reference: Reference | None = None
        self._pairs: dict[Split, list[tuple[Tensor, Tensor]]] = {}

    @abstractmethod
    def test_files(self) -> list[Path]:
        """Return the test photographs, in the order of scores and ids; raise MissingDataError where they are not."""

    def build(self, model: type[nn.Module]) -> nn.Module:
        return model(in_channels=1, scale=self.scale)

    def check(self, split: Split) -> None:
        if split is Split.TEST:
            check_data(self.name)
        else:
            check_embedded(PHOTOS)

    def ids(self, split: Split) -> list[int]:
        """Return the places of photographs among the test files, or of crops among the shipped ones.

        Training and fine-tuning have PATCHES_PER_CROP patches of each crop: patch i is cut from crop
        i // PATCHES_PER_CROP.
        """
        if split is Split.TEST:
            return list(range(len(self.test_files())))
        if split in (Split.TRAIN, Split.FINE_TUNING):
            return list(range(PATCHES_PER_CROP * len(read_crops("train").order)))
        if split is Split.CALIBRATION:
            return read_crops("train").order[:CALIBRATION_SIZE]
        return read_crops("validation").order[:VALIDATION_SIZE]

    def names(self) -> list[str]:
        """Return the names of the test photographs, in the order of scores."""
        return [path.stem for path in self.test_files()]

    def pairs(self, split: Split) -> list[tuple[Tensor, Tensor]]:
        """Return the low-resolution and the high-resolution image of each test photograph, or of each patch.

        Each is (1, 1, H, W), uint8. Patches are the middles of their crops.
        """
        if split not in self._pairs:
            self.check(split)
            self._pairs[split] = self._photographs() if split is Split.TEST else self._patches(split)
        return self._pairs[split]

    def _photographs(self) -> list[tuple[Tensor, Tensor]]:
        found = []
        for path in self.test_files():
            whole = read_luma(path)
            # A window of SSIM has to fit between the borders.
            least = (2 - -SSIM_WINDOW // self.scale) * self.scale
            if min(whole.shape) < least:
                raise ValueError(
                    f"{path}: {whole.shape[1]} x {whole.shape[0]} pixels are too few for {self.name}. "
                    f"Give photographs of at least {least} x {least}."
                )
            height, width = (side // self.scale * self.scale for side in whole.shape)
            high = whole[:height, :width][None, None].contiguous()
            found.append((downscaled(high, self.scale), high))
        return found

    def _patches(self, split: Split) -> list[tuple[Tensor, Tensor]]:
        crops = read_crops("validation" if split is Split.VALIDATION else "train")
        high = crops.images[self.ids(split)]
        low = downscaled(high, self.scale)
        margin = (low.shape[2] - CALIBRATION_PATCH) // 2
        low, high = interior(low, margin), interior(high, margin * self.scale)
        return list(zip(low.split(1), high.split(1), strict=True))

    def inputs(self, split: Split) -> Tensor:
        """Return (N, 1, 32, 32) calibration or validation patches.

        Raises:
            ValueError: another split, whose images are not of one size.
        """
        if split not in (Split.CALIBRATION, Split.VALIDATION):
            raise ValueError(f"split: {split.value} has no inputs of one size. Give calibration or search-validation.")
        return torch.cat([low for low, _ in self.pairs(split)]).float() / 255

    def take_reference(self, model: nn.Module, report: Report) -> None:
        halo = reach(model, self.scale)
        pairs = self.pairs(Split.TEST)
        outputs = []
        for done, (low, _) in enumerate(pairs, 1):
            outputs.append(self._output(model, low, halo).half())
            report("evaluation", done, len(pairs))
        self.reference = Reference(outputs, halo)

    def evaluate(self, model: nn.Module, split: Split, report: Report) -> Scores:
        """Return the mean PSNR, and per image its own; SSIM; on the test split also what is seen beside full precision.

        That is the PSNR to its outputs, left out for the full-precision network itself, and a part of the first
        photograph to look at. Without take_reference there is neither.
        """
        reference = self.reference if split is Split.TEST else None
        halo = self.reference.halo if self.reference else reach(model, self.scale)
        pairs = self.pairs(split)
        scores, similarities, fidelities = [], [], []
        pictures = None
        for done, (low, high) in enumerate(pairs):
            output = self._output(model, low, halo)
            image, target = (interior(levels, self.scale) for levels in ((255 * output).round(), high))
            scores.append(psnr(image, target))
            similarities.append(ssim(image, target))
            if reference:
                full = reference.outputs[done]
                fidelities.append(psnr(*(interior(255 * x.double(), self.scale) for x in (output.half(), full))))
                pictures = pictures or self._pictures(output, full)
            report("evaluation", done + 1, len(pairs))
        outcomes = torch.tensor(scores, dtype=torch.float32)
        measures = {"SSIM": sum(similarities) / len(similarities)}
        if fidelities and min(fidelities) < BEST_PSNR:
            measures["PSNR to full precision, dB"] = sum(fidelities) / len(fidelities)
        return Scores(outcomes.double().mean().item(), outcomes, measures, pictures)

    def _pictures(self, output: Tensor, full_precision: Tensor) -> Pictures:
        """Return what a network makes of the first test photograph, in part."""
        low, high = self.pairs(Split.TEST)[0]
        references = {"bicubic": Bicubic(self.scale)(low.float()), "full precision": 255 * full_precision.float()}
        return pictures_of(self.names()[0], high, references, 255 * output)

    def _output(self, model: nn.Module, low: Tensor, halo: int | None) -> Tensor:
        """Return (1, 1, H, W) float32 on the CPU, within [0, 1]."""
        device = next((p.device for p in model.parameters()), torch.device("cpu"))
        output = upscale(model, low.to(device).float() / 255, self.scale, halo).clamp(0, 1).cpu()
        if output.isnan().any():
            raise ValueError("model: its output has values that are not numbers. Check its weights.")
        return output

    def training_batches(self, split: Split, batch_size: int, generator: Generator) -> Iterator[tuple[Tensor, Tensor]]:
        self.check(split)
        high = read_crops("train").images
        low = downscaled(high, self.scale)
        side = TRAINING_PATCH // self.scale
        places = low.shape[2] - side + 1
        for chosen in shuffled(split, len(self.ids(split)), batch_size, generator):
            corners = torch.randint(places, (len(chosen), 2), generator=generator)
            turns = torch.randint(8, (len(chosen),), generator=generator)
            crops = chosen // PATCHES_PER_CROP
            inputs = turned(cut(low, crops, corners, side), turns)
            targets = turned(cut(high, crops, self.scale * corners, self.scale * side), turns)
            yield inputs.float() / 255, targets.float() / 255

    def training_loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return F.l1_loss(outputs, targets)

    def training_data(self) -> dict[str, Any]:
        return {
            "name": "crops of photographs, shipped as benchmarks/data/photos/train",
            "content_sha256": {
                name: sha256 for name, sha256 in embedded_sums(PHOTOS).items() if name.startswith("train/")
            },
            "preprocessing": "luma / 255, low resolution by bicubic interpolation with antialias",
        }


def cut(images: Tensor, chosen: Tensor, corners: Tensor, side: int) -> Tensor:
    """Return (B, 1, side, side), a square of each chosen image.

    Args:
        images: (N, 1, H, W).
        chosen: (B,), which images.
        corners: (B, 2), the top and the left of each square.
    """
    rows, columns = (corner[:, None] + torch.arange(side) for corner in corners.unbind(1))
    return images[chosen[:, None, None], 0, rows[:, :, None], columns[:, None, :]].unsqueeze(1)


def turned(images: Tensor, turns: Tensor) -> Tensor:
    """Return (B, 1, S, S), each image in one of its eight positions.

    Args:
        images: (B, 1, S, S).
        turns: (B,), 0 to 7: bits flip rows, flip columns and transpose.
    """
    rows, columns, axes = ((turns >> bit & 1).bool().view(-1, 1, 1, 1) for bit in range(3))
    images = torch.where(rows, images.flip(2), images)
    images = torch.where(columns, images.flip(3), images)
    return torch.where(axes, images.transpose(2, 3), images)


def bicubic_scores(task: SuperResolution, split: Split) -> Scores:
    """Return the scores of bicubic interpolation, which networks have to beat."""
    return task.evaluate(Bicubic(task.scale), split, lambda stage, done, total: None)
