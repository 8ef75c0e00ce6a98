import base64
import io

import numpy
import PIL.Image
import pytest
import torch

from benchmarks.showcase import GAIN, NO_ERROR, SIDE, most_detailed, pictures_of


def shown(encoded: str) -> numpy.ndarray:
    return numpy.asarray(PIL.Image.open(io.BytesIO(base64.b64decode(encoded)))).astype(int)


@pytest.fixture
def original():
    """Flat but for noise in rows 96 to 175 and columns 40 to 119."""
    image = torch.full((1, 1, 200, 240), 100.0)
    image[..., 96:176, 40:120] += 40 * torch.rand(80, 80, generator=torch.Generator().manual_seed(0))
    return image.round()


def test_the_part_with_the_most_detail_is_shown(original):
    assert most_detailed(original) == (96, 40, SIDE, SIDE)
    found = pictures_of("noise", original, {}, original)
    assert found.references.keys() == {"original"}
    assert (shown(found.references["original"].image) == original[0, 0, 96:176, 40:120].numpy()).all()


def test_a_small_image_is_shown_whole():
    assert most_detailed(torch.zeros(1, 1, 30, 90)) == (0, 0, 30, SIDE)


def test_errors_are_drawn_larger_and_clipped(original):
    output = original.clone()
    output[..., 96, 40] += 2.4
    output[..., 96, 41] -= 3
    output[..., 96, 42] += 90
    found = pictures_of("noise", original, {"worse": original - 1}, output)
    error = shown(found.output.error)
    assert error[0, :4].tolist() == [NO_ERROR + 2 * GAIN, NO_ERROR - 3 * GAIN, 255, NO_ERROR]
    assert (error[1:] == NO_ERROR).all()
    assert (shown(found.references["worse"].error) == NO_ERROR - GAIN).all()
    assert found.references["original"].error is None
