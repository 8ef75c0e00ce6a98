"""What every weight candidate keeps to, whatever its algorithm."""

import dataclasses
import re
import sys

import pytest
import torch
from torch import nn

from dqss.calibrate import Calibration, calibrate
from dqss.candidates import BIAS, BiasCorrected, weight_candidate
from dqss.graph import Prepared, prepare
from dqss.quantizers import QUANTIZERS
from dqss.reconstruction import RECONSTRUCTIONS
from dqss.search.base import no_report
from dqss.spec import Bits, Protocol, Scheme
from dqss.weights import quantized_weight

PLAIN = [*QUANTIZERS, *RECONSTRUCTIONS]
every_name = pytest.mark.parametrize("name", [*PLAIN, *(name + BIAS for name in PLAIN)])
PROTOCOLS = [
    pytest.param(Protocol(weight=Scheme(symmetric, granularity)), id=f"{granularity}-{symmetric}")
    for symmetric in (True, False)
    for granularity in ("per-tensor", "per-channel")
]


class Kinds(nn.Module):
    """A convolution, one grouped, one depthwise without bias, one transposed, a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.plain = nn.Conv2d(2, 4, 3, padding=1)
        self.grouped = nn.Conv2d(4, 6, 3, groups=2)
        self.depthwise = nn.Conv2d(6, 6, 2, groups=6, bias=False)
        self.transposed = nn.ConvTranspose2d(6, 4, 2, stride=2, groups=2)
        self.linear = nn.Linear(4, 3)

    def forward(self, x):
        x = torch.relu(self.grouped(torch.relu(self.plain(x))))
        return self.linear(self.transposed(self.depthwise(x)).mean((2, 3)))


def calibrated(protocol: Protocol, change=lambda network: None, factor: float = 1.0) -> tuple[Prepared, Calibration]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = Kinds()
        batches = [factor * torch.randn(count, 2, 6, 6) for count in (4, 2)]
    change(network)
    prepared = prepare(network, protocol, Bits(3, 4))
    return prepared, calibrate(prepared, batches, no_report)


def weights_of(name: str, prepared: Prepared, calibration: Calibration):
    return {layer: quantized_weight(weight_candidate(name), layer, prepared, calibration) for layer in prepared.layers}


@every_name
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_values_lie_on_a_grid_of_the_specs_bits_that_holds_zero(name, protocol):
    prepared, calibration = calibrated(protocol)
    for layer, made in weights_of(name, prepared, calibration).items():
        exact, spec = prepared.layers[layer].weight, prepared.specs[layer].weight
        assert (made.weight.shape, made.weight.dtype) == (exact.shape, exact.dtype)
        assert not made.weight.requires_grad
        axis = spec.channel_axis
        for channel in made.weight[None] if axis is None else made.weight.movedim(axis, 0):
            values = channel.unique().double()
            # Each value is a whole number of steps; the smallest distance between two is 1 to 7 of them.
            steps = [values / (values.diff().min() / k) for k in range(1, 8)] if len(values) > 1 else [values * 0]
            on_grid = [s for s in steps if torch.allclose(s, s.round(), atol=1e-3)]
            assert any((s.max().clamp(min=0) - s.min().clamp(max=0)).round() < 8 for s in on_grid)


@every_name
def test_a_bias_comes_from_the_modifier_alone(name):
    prepared, calibration = calibrated(Protocol())
    for layer, made in weights_of(name, prepared, calibration).items():
        assert (made.bias is not None) == name.endswith(BIAS)
        if made.bias is not None:
            outputs = prepared.layers[layer].bias
            assert made.bias.ndim == 1
            assert outputs is None or made.bias.shape == outputs.shape
            assert made.bias.dtype == made.weight.dtype


@every_name
def test_the_same_data_give_the_same_weight_and_nothing_else_changes(name):
    first, calibration = calibrated(Protocol())
    before = {key: tensor.clone() for key, tensor in first.model.state_dict().items()}
    random = torch.get_rng_state()
    made = weights_of(name, first, calibration)
    assert torch.get_rng_state().equal(random)
    assert all(before[key].equal(tensor) for key, tensor in first.model.state_dict().items())
    torch.rand(3)
    again = weights_of(name, *calibrated(Protocol()))
    for layer, quantized in made.items():
        assert quantized.weight.equal(again[layer].weight)
        assert quantized.bias is None or quantized.bias.equal(again[layer].bias)


@every_name
def test_weights_of_zero_stay_zero(name):
    prepared, calibration = calibrated(Protocol(), lambda network: network.plain.weight.data.zero_())
    made = weights_of(name, prepared, calibration)["plain"]
    assert not made.weight.any()
    assert made.bias is None or made.bias.equal(prepared.layers["plain"].bias)


@every_name
@pytest.mark.parametrize("factor", [0.0, 1e-20, 1e20])
def test_inputs_of_zero_or_of_a_strange_size_give_finite_weights(name, factor):
    for made in weights_of(name, *calibrated(Protocol(), factor=factor)).values():
        assert made.weight.isfinite().all()
        assert made.bias is None or made.bias.isfinite().all()


@every_name
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_the_precision_is_that_of_the_layer(name, dtype):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network, batches = Kinds().to(dtype), [torch.randn(4, 2, 6, 6).to(dtype)]
    prepared = prepare(network, Protocol(), Bits(3, 4))
    for made in weights_of(name, prepared, calibrate(prepared, batches, no_report)).values():
        assert made.weight.dtype == dtype
        assert made.bias is None or made.bias.dtype == dtype


@every_name
def test_it_works_without_and_leaves_no_gradients(name):
    prepared, calibration = calibrated(Protocol())
    with torch.no_grad():
        made = weights_of(name, prepared, calibration)
    assert all(not parameter.requires_grad for parameter in prepared.model.parameters())
    again = weights_of(name, *calibrated(Protocol()))
    assert all(quantized.weight.equal(again[layer].weight) for layer, quantized in made.items())


@pytest.mark.parametrize("name", [*RECONSTRUCTIONS])
def test_a_reconstructions_options_are_fields_and_its_module_cites_its_source(name):
    made = RECONSTRUCTIONS.create(name)
    assert dataclasses.is_dataclass(made)
    assert type(made).__dataclass_params__.frozen
    assert made == RECONSTRUCTIONS.create(name)
    assert hash(made) == hash(RECONSTRUCTIONS.create(name))
    assert re.search(r"\((?:[A-Za-z/]+ (?:19|20)\d\d|arXiv \d{4}\.\d{5})\)", sys.modules[type(made).__module__].__doc__)


def test_a_bias_goes_with_any_algorithm():
    assert weight_candidate("adaround+bias") == BiasCorrected(RECONSTRUCTIONS.create("adaround"))
