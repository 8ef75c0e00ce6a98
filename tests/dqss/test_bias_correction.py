import copy

import pytest
import torch
from torch import nn

from dqss.bias_correction import corrected_bias
from dqss.calibrate import calibrate
from dqss.candidates import weight_candidate
from dqss.graph import prepare
from dqss.moments import MeanInput
from dqss.search.base import no_report
from dqss.spec import PROTOCOLS, Bits
from dqss.weights import quantized_weight

NETWORKS = {
    "padded": nn.Sequential(nn.Conv2d(2, 3, 3, padding=1)),
    "depthwise without bias": nn.Sequential(nn.Conv2d(2, 4, 3, padding=2, stride=2, groups=2, bias=False)),
    "transposed": nn.Sequential(nn.ConvTranspose2d(2, 3, 3, stride=2, padding=1)),
    "linear": nn.Sequential(nn.Flatten(), nn.Linear(50, 4)),
}


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("name", ["minmax+bias", "adaround+bias"])
def test_the_mean_output_per_channel_is_that_of_full_precision(kind, name, batches):
    network = NETWORKS[kind]
    prepared = prepare(network, PROTOCOLS["all-layers"], Bits(2, 4))
    calibration = calibrate(prepared, [batch + 1 for batch in batches], no_report)
    (layer_name,) = prepared.layers
    made = quantized_weight(weight_candidate(name), layer_name, prepared, calibration)
    quantized = copy.deepcopy(network).double()
    layer = quantized.get_submodule(layer_name)
    layer.weight.data = made.weight.double()
    with torch.no_grad():
        x = torch.cat(batches).double() + 1
        exact = copy.deepcopy(network).double()(x).transpose(0, 1).flatten(1).mean(1)
        layer.bias = None
        uncorrected = quantized(x).transpose(0, 1).flatten(1).mean(1)
        layer.bias = nn.Parameter(made.bias.double())
        corrected = quantized(x).transpose(0, 1).flatten(1).mean(1)
    assert (uncorrected - exact).abs().max() > 1e-3
    assert torch.allclose(corrected, exact, atol=1e-6)


def test_a_weight_that_is_exact_leaves_the_bias():
    layer = nn.Linear(3, 2)
    mean = MeanInput()
    mean.update(layer, torch.rand(5, 3))
    assert corrected_bias(layer, layer.weight, mean).equal(layer.bias)


def test_one_input_by_hand():
    layer = nn.Linear(2, 1)
    layer.weight.data, layer.bias.data = torch.tensor([[1.0, 2.0]]), torch.tensor([0.5])
    mean = MeanInput()
    mean.update(layer, torch.tensor([[1.0, 3.0], [3.0, 5.0]]))
    # The mean input is (2, 4); the weight's error is (1, -2): the output is 2 - 8 = 6 too low.
    assert corrected_bias(layer, torch.tensor([[2.0, 0.0]]), mean).item() == 6.5
