from itertools import product

import pytest
import torch
from torch import nn

from dqss.calibrate import TensorSummary
from dqss.functional import fake_quantize
from dqss.moments import patches
from dqss.quantizers.minmax import MinMax
from dqss.quantizers.mse import Mse
from dqss.reconstruction.adaround import AdaRound, rectified, regularizer, unrectified
from dqss.spec import QuantSpec


def layer_and_inputs(seed: int) -> tuple[nn.Conv1d, torch.Tensor]:
    """One output of six correlated inputs: 2^6 roundings."""
    generator = torch.Generator().manual_seed(seed)
    layer = nn.Conv1d(2, 1, 3)
    layer.weight.data = torch.randn(1, 2, 3, generator=generator)
    x = torch.randn(8, 2, 20, generator=generator).cumsum(2) / 3 + torch.rand(1, generator=generator)
    return layer, x


def summary_of(layer: nn.Module) -> TensorSummary:
    summary = TensorSummary()
    summary.update(layer.weight)
    return summary


def output_error(layer: nn.Conv1d, x: torch.Tensor, weight: torch.Tensor) -> float:
    with torch.no_grad():
        return (nn.functional.conv1d(x, weight) - nn.functional.conv1d(x, layer.weight)).square().mean().item()


def moment(layer: nn.Module, x: torch.Tensor) -> torch.Tensor:
    columns = patches(layer, x)
    return torch.bmm(columns, columns.mT) / columns.shape[2]


def test_learned_rounding_is_near_the_best_of_all_roundings_and_never_above_nearest():
    spec = QuantSpec(3, symmetric=True)
    learned, nearest, best = [], [], []
    for seed in range(8):
        layer, x = layer_and_inputs(seed)
        grid = Mse().qparams(summary_of(layer), spec)
        floors = (layer.weight.detach() / grid.scale).floor()
        roundings = [floors + torch.tensor(ups).view(1, 2, 3) for ups in product((0, 1), repeat=6)]
        every = [output_error(layer, x, steps.clamp(-4, 3) * grid.scale) for steps in roundings]
        best.append(min(every))
        nearest.append(output_error(layer, x, fake_quantize(layer.weight.detach(), grid)))
        found = AdaRound().quantized(layer, summary_of(layer), spec, moment(layer, x))
        learned.append(output_error(layer, x, found))
        assert best[-1] * (1 - 1e-4) <= learned[-1] <= nearest[-1] * (1 + 1e-4)
    # On the mean it closes nine tenths of the way from nearest rounding to the optimum.
    assert sum(learned) - sum(best) < 0.1 * (sum(nearest) - sum(best))


def test_independent_inputs_of_one_power_leave_nearest_rounding():
    layer, _ = layer_and_inputs(0)
    spec = QuantSpec(4, symmetric=True)
    found = AdaRound().quantized(layer, summary_of(layer), spec, torch.eye(6)[None])
    assert found.equal(fake_quantize(layer.weight.detach(), Mse().qparams(summary_of(layer), spec)))


def test_the_grid_is_that_of_the_quantizer_it_is_given():
    layer, x = layer_and_inputs(1)
    spec = QuantSpec(3, symmetric=False)
    found = AdaRound(ranges=MinMax()).quantized(layer, summary_of(layer), spec, moment(layer, x))
    assert fake_quantize(found, MinMax().qparams(summary_of(layer), spec)).equal(found)
    assert not fake_quantize(found, Mse().qparams(summary_of(layer), spec)).equal(found)


def test_the_regulariser_by_hand():
    assert regularizer(torch.tensor([0.0, 1.0]), 3.0) == 0
    assert regularizer(torch.tensor([0.5]), 20.0) == 1
    assert regularizer(torch.tensor([0.75]), 2.0) == 0.75
    assert regularizer(torch.tensor([0.25, 0.75]), 3.0) == 1.75


def test_the_rectified_sigmoid_by_hand():
    # sigmoid(ln 3) = 0.75, and 0.75 * 1.2 - 0.1 = 0.8.
    assert rectified(torch.tensor(3.0).log()) == pytest.approx(0.8, rel=1e-6)
    shares = torch.tensor([0.0, 0.1, 0.5, 0.99, 1.0])
    assert torch.allclose(rectified(unrectified(shares)), shares, atol=1e-6)


@pytest.mark.parametrize("factor", [2.0**60, 2.0**-60])
def test_the_rounding_does_not_depend_on_the_units_of_weights_or_inputs(factor):
    layer, x = layer_and_inputs(2)
    spec = QuantSpec(3, symmetric=True)
    plain = AdaRound().quantized(layer, summary_of(layer), spec, moment(layer, x))
    assert AdaRound().quantized(layer, summary_of(layer), spec, moment(layer, x) * factor).equal(plain)
    layer.weight.data *= factor
    assert AdaRound().quantized(layer, summary_of(layer), spec, moment(layer, x)).equal(plain * factor)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"iterations": 0}, "iterations: 0 is not allowed"),
        ({"learning_rate": 0.0}, "learning_rate: 0.0 is not allowed"),
        ({"regularization": -1.0}, "regularization: -1.0 is not allowed"),
        ({"warm_up": 1.0}, "warm_up: 1.0 is not allowed"),
        ({"beta_end": 30.0}, r"beta_end: 30.0 is not allowed.*beta_start \(20.0\)"),
    ],
)
def test_an_option_out_of_range_is_an_error_that_says_which(options, message):
    with pytest.raises(ValueError, match=message):
        AdaRound(**options)
