"""Pictures for the board: one part of one test image, beside what it is compared with, and the errors."""

from __future__ import annotations

import io
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.records import Picture, Pictures

SIDE = 80
"""Of the part that is shown, in pixels; less where the image is smaller."""
STRIDE = 8
"""Between the places that are compared for their detail, in pixels."""
GAIN = 4
"""How much larger an error is drawn."""
NO_ERROR = 128
"""The grey of a pixel without error; more is too bright, less too dark."""


def pictures_of(name: str, original: Tensor, references: Mapping[str, Tensor], output: Tensor) -> Pictures:
    """Return the part of an image that has the most detail, as it is and as it came out.

    Args:
        name: of the image, for its caption.
        original: (1, 1, H, W), levels of 8 bits; likewise the others.
        references: name -> what outputs are compared with beside the original.
    """
    top, left, height, width = most_detailed(original)

    def part(levels: Tensor) -> Tensor:
        return levels[0, 0, top : top + height, left : left + width].double().round().clamp(0, 255)

    def picture(levels: Tensor) -> Picture:
        error = GAIN * (part(levels) - part(original)) + NO_ERROR
        return Picture.of(png(part(levels)), png(error.clamp(0, 255)))

    return Pictures(
        caption=f"{name}: {width} x {height} pixels of its luma; errors {GAIN} times as large, grey for none",
        references={"original": Picture.of(png(part(original)))}
        | {reference: picture(levels) for reference, levels in references.items()},
        output=picture(output),
    )


def most_detailed(image: Tensor) -> tuple[int, int, int, int]:
    """Return top, left, height and width of the part whose pixels differ most from their neighbours.

    Args:
        image: (1, 1, H, W).
    """
    image = image.double()
    detail = torch.zeros_like(image)
    detail[..., 1:, :] += image.diff(dim=2).abs()
    detail[..., :, 1:] += image.diff(dim=3).abs()
    height, width = (min(SIDE, side) for side in image.shape[2:])
    means = F.avg_pool2d(detail, (height, width), STRIDE)
    place = int(means.argmax())
    row, column = divmod(place, means.shape[3])
    return row * STRIDE, column * STRIDE, height, width


def png(levels: Tensor) -> bytes:
    """Return the PNG file of (H, W) levels of 8 bits."""
    import PIL.Image

    file = io.BytesIO()
    PIL.Image.fromarray(levels.to(torch.uint8).numpy()).save(file, "PNG", optimize=True)
    return file.getvalue()
