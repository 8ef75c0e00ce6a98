import pytest
import torch
from torch import nn

from benchmarks.models import MODELS
from benchmarks.models.luma import MEAN
from dqss.folding import QUANTIZABLE
from dqss.graph import prepare
from dqss.ptq import quantize_ptq
from dqss.spec import PROTOCOLS, Bits

NAMES = ("espcn", "fsrcnn", "edsr-small", "srresnet-small")
DOUBLING = ("edsr-small", "srresnet-small")


def network(name, scale=2):
    """With normalisations as training leaves them: statistics, gains and shifts of their own."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = MODELS.load(name)(1, scale)
        for norm in made.modules():
            if isinstance(norm, nn.BatchNorm2d):
                for values in (norm.weight, norm.bias, norm.running_mean):
                    nn.init.normal_(values, 0.5, 0.2)
                nn.init.uniform_(norm.running_var, 0.1, 1.0)
    return made.eval()


def crops(count=2, height=11, width=14):
    return torch.rand(count, 1, height, width, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("scale", [2, 4])
@pytest.mark.parametrize("name", NAMES)
def test_an_image_of_any_size_grows_by_the_scale(name, scale):
    with torch.no_grad():
        assert network(name, scale)(crops()).shape == (2, 1, 11 * scale, 14 * scale)


@pytest.mark.parametrize("scale", [2, 4])
@pytest.mark.parametrize("name", NAMES)
def test_away_from_the_borders_a_shifted_image_gives_a_shifted_output(name, scale):
    wide = crops(1, 40, 41)
    with torch.no_grad():
        left, right = (network(name, scale)(wide[..., start : start + 40]) for start in (0, 1))
    far = 17 * scale  # More than any network's reach.
    torch.testing.assert_close(left[..., far:-far, far + scale : -far], right[..., far:-far, far : -far - scale])
    assert left[..., far:-far, far:-far].std() > 0


@pytest.mark.parametrize("name", NAMES)
def test_every_convolution_is_a_layer_and_every_normalisation_is_folded(name):
    whole = network(name)
    prepared = prepare(whole, PROTOCOLS["all-layers"], Bits(4, 4), [crops()])
    assert set(prepared.layers) == {at for at, module in whole.named_modules() if isinstance(module, QUANTIZABLE)}
    assert not any(isinstance(module, nn.BatchNorm2d) for module in prepared.model.modules())
    assert prepared.notes == ()
    with torch.no_grad():
        torch.testing.assert_close(prepared.model(crops()), whole(crops()), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_at_eight_bits_little_is_lost_and_at_two_much(name):
    whole, batch = network(name), crops()
    with torch.no_grad():
        exact = whole(batch)
        errors = {
            bits: (
                quantize_ptq(
                    whole, [batch], bits, "uniform", weight_quantizers=["minmax"], activation_quantizers=["minmax"]
                ).model(batch)
                - exact
            )
            .square()
            .mean()
            / exact.var()
            for bits in ("W8A8", "W2A2")
        }
    assert 0 < errors["W8A8"] < 1e-2 < errors["W2A2"]


def weights(name, scale=2):
    return sum(module.weight.numel() for module in network(name, scale).modules() if isinstance(module, QUANTIZABLE))


def test_the_layouts_are_those_of_the_papers():
    # FSRCNN, table 1: 12,464 weights of FSRCNN(56, 12, 4), whatever the scale.
    assert weights("fsrcnn", 2) == weights("fsrcnn", 4) == 12_464
    # ESPCN, 5-3-3 with 64 and 32 channels; scale^2 channels in the end.
    assert weights("espcn", 4) - weights("espcn", 2) == 9 * 32 * (16 - 4)
    assert weights("espcn", 2) == 25 * 64 + 9 * 64 * 32 + 9 * 32 * 4
    # EDSR: head, two per block, one behind them, one per doubling, the last. SRResNet likewise, with 9x9 ends.
    assert weights("edsr-small", 2) == 9 * (24 + 11 * 24 * 24 + 24 * 96 + 24)
    assert weights("edsr-small", 4) - weights("edsr-small", 2) == 9 * 24 * 96
    assert weights("srresnet-small", 2) == 81 * 24 + 9 * (9 * 24 * 24 + 24 * 96) + 81 * 24


def test_the_mean_that_is_subtracted_is_the_luma_of_the_means_of_div2k():
    rgb = (0.4488, 0.4371, 0.4040)
    luma = 16 + 65.481 * rgb[0] + 128.553 * rgb[1] + 24.966 * rgb[2]
    assert pytest.approx(luma / 255, abs=5e-5) == MEAN


def test_before_training_the_residual_branches_of_srresnet_give_nothing():
    """What the batch's own statistics would blow up; training moves them from there."""
    fresh = MODELS.load("srresnet-small")(1, 2)
    features = torch.randn(2, 24, 8, 8, generator=torch.Generator().manual_seed(0))
    *blocks, last_conv, last_norm = fresh.body
    for block in blocks:
        torch.testing.assert_close(block(features), features)
    assert not last_norm(last_conv(features)).any()
    fresh(crops()).square().sum().backward()
    assert all(norm.weight.grad is not None for norm in fresh.modules() if isinstance(norm, nn.BatchNorm2d))
    assert last_norm.weight.grad.any()


@pytest.mark.parametrize("scale", [0, 1, 3, 6])
@pytest.mark.parametrize("name", DOUBLING)
def test_who_doubles_takes_powers_of_two_alone(name, scale):
    with pytest.raises(ValueError, match=f"scale: {scale} is no power of two. Write 2 or 4"):
        network(name, scale)
