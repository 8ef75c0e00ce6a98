from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from benchmarks.tiling import PROBES, reach, upscale
from dqss.ptq import quantize_ptq

WIDTH = 4


class Residual(nn.Module):
    """Two convolutions and a shortcut."""

    def __init__(self, *between: nn.Module) -> None:
        super().__init__()
        self.body = nn.Sequential(conv(WIDTH, WIDTH), *between, conv(WIDTH, WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class Pooled(nn.Module):
    """Every output depends on every input."""

    def forward(self, x: Tensor) -> Tensor:
        return x + x.mean((2, 3), keepdim=True)


class Deaf(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.nan_to_num()


def conv(inputs: int, outputs: int, kernel: int = 3) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)


def espcn(scale: int) -> nn.Module:
    return nn.Sequential(
        conv(1, WIDTH, 5), nn.Tanh(), conv(WIDTH, WIDTH), nn.ReLU(), conv(WIDTH, scale**2), nn.PixelShuffle(scale)
    )


def fsrcnn(scale: int) -> nn.Module:
    enlarge = nn.ConvTranspose2d(WIDTH, 1, 9, stride=scale, padding=4, output_padding=scale - 1)
    return nn.Sequential(
        conv(1, WIDTH, 5), nn.PReLU(WIDTH), conv(WIDTH, WIDTH, 1), nn.PReLU(WIDTH), conv(WIDTH, WIDTH), enlarge
    )


def edsr(scale: int) -> nn.Module:
    tail = (conv(WIDTH, WIDTH * scale**2), nn.PixelShuffle(scale), conv(WIDTH, 1))
    return nn.Sequential(conv(1, WIDTH), Residual(nn.ReLU()), Residual(nn.ReLU()), *tail)


def srresnet(scale: int) -> nn.Module:
    tail = (conv(WIDTH, WIDTH * scale**2), nn.PixelShuffle(scale), nn.PReLU(), conv(WIDTH, 1, 9))
    return nn.Sequential(conv(1, WIDTH, 9), nn.PReLU(), Residual(nn.BatchNorm2d(WIDTH), nn.PReLU()), *tail)


# Of each its reach at scale 2, added up by hand: half of each kernel, and of what lies behind the enlargement half of
# that again, rounded up.
KINDS = {"espcn": (espcn, 2 + 1 + 1), "fsrcnn": (fsrcnn, 2 + 1 + 2), "edsr": (edsr, 1 + 4 + 1 + 1)}
KINDS["srresnet"] = (srresnet, 4 + 2 + 1 + 2)


def network_of(kind: str, scale: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        # In float64, so that another order of the sums is no difference.
        return KINDS[kind][0](scale).double().eval()


def image(height: int, width: int) -> Tensor:
    return torch.rand(1, 1, height, width, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("kind", KINDS)
def test_the_reach_is_that_of_the_kernels(kind):
    assert reach(network_of(kind, 2), 2) == KINDS[kind][1]


def test_a_reach_beyond_the_first_probe_is_measured_with_a_larger_one():
    assert PROBES[0] == 33
    deep = nn.Sequential(*(conv(1, 1) for _ in range(20))).eval()
    assert reach(deep, 1) == 20


def test_a_network_that_pools_over_the_image_has_no_reach_and_is_taken_whole():
    assert reach(Pooled(), 1) is None
    whole = image(20, 20)
    assert upscale(Pooled(), whole, 1, None, tile=4).equal(Pooled()(whole))


def test_a_network_that_hides_what_is_not_a_number_is_refused():
    with pytest.raises(ValueError, match="Deaf hides values that are not numbers"):
        reach(Deaf(), 1)


@pytest.mark.parametrize(("height", "width"), [(37, 23), (24, 16), (9, 41)])
@pytest.mark.parametrize("scale", [2, 4])
@pytest.mark.parametrize("kind", KINDS)
def test_tiles_give_what_the_whole_image_gives(kind, scale, height, width):
    network = network_of(kind, scale)
    whole = image(height, width)
    expected = network(whole)
    assert expected.shape == (1, 1, height * scale, width * scale)
    found = upscale(network, whole, scale, reach(network, scale), tile=8)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("scale", [2, 4])
@pytest.mark.parametrize("kind", KINDS)
def test_a_halo_one_too_small_shows(kind, scale):
    network = network_of(kind, scale)
    whole = image(37, 23)
    halo = reach(network, scale)
    assert halo is not None
    wrong = upscale(network, whole, scale, halo - 1, tile=8)
    assert (wrong - network(whole)).abs().max() > 1e-9


def test_an_image_no_larger_than_a_tile_is_one_call():
    shapes = []

    class Watched(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            shapes.append(tuple(x.shape[2:]))
            return x

    upscale(Watched(), image(8, 8), 1, 3, tile=8)
    assert shapes == [(8, 8)]
    upscale(Watched(), image(8, 20), 1, 3, tile=8)
    assert shapes[1:] == [(8, 11), (8, 14), (8, 7)]


def test_a_quantized_network_reaches_as_far_as_the_one_it_was_made_of():
    network = network_of("espcn", 2).float()
    batches = image(48, 12).float().view(4, 1, 12, 12).split(2)
    result = quantize_ptq(network, batches, "W8A8", "uniform", weight_quantizers=["mse"], activation_quantizers=["mse"])
    assert reach(result.model, 2) == reach(network, 2) == 4
