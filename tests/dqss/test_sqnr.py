import pytest
import torch

from dqss.calibrate import calibrate
from dqss.candidates import weight_candidate
from dqss.functional import fake_quantize
from dqss.graph import prepare
from dqss.quantizers import QUANTIZERS
from dqss.search.base import no_report
from dqss.spec import Bits, Protocol, Scheme
from dqss.sqnr import decibels, layer_sqnr
from dqss.strategy import Choice, Strategy
from dqss.weights import quantized_weight


def test_decibels_by_hand():
    assert decibels(2.0, 0.02) == pytest.approx(20)
    assert decibels(1.0, 2.0) == pytest.approx(-3.0103, abs=1e-4)
    assert decibels(0.0, 1.0) is None
    assert decibels(1.0, 0.0) is None


@pytest.mark.parametrize("granularity", ["per-tensor", "per-channel"])
def test_a_layers_sqnr_is_that_of_its_raw_values(tiny, batches, granularity):
    protocol = Protocol(weight=Scheme(symmetric=True, granularity=granularity))
    prepared = prepare(tiny, protocol, Bits(3, 5))
    calibration = calibrate(prepared, batches, no_report)
    choices = {"stem": ("mse", "kl"), "depthwise": ("percentile", "mse"), "head": ("minmax", "minmax")}
    strategy = Strategy({name: Choice(w, a, Bits(3, 5)) for name, (w, a) in choices.items()}, Bits(3, 5), protocol)

    inputs = {}
    hooks = [
        layer.register_forward_pre_hook(lambda module, args, name=name: inputs.update({name: args[0]}))
        for name, layer in prepared.layers.items()
    ]
    prepared.model(torch.cat(batches))
    for hook in hooks:
        hook.remove()

    def naive(x, quantizer, summary, spec):
        noise = fake_quantize(x, QUANTIZERS.create(quantizer).qparams(summary, spec)) - x
        return 10 * torch.log10(x.square().sum() / noise.square().sum()).item()

    found = layer_sqnr(prepared, calibration, strategy)
    assert list(found) == list(choices)
    for name, (weight, activation) in choices.items():
        specs = prepared.specs[name]
        # A hundredth of a decibel or so: each value is taken at its bin's centre.
        assert found[name] == (
            pytest.approx(
                naive(prepared.layers[name].weight, weight, calibration.weights[name], specs.weight), abs=0.05
            ),
            pytest.approx(naive(inputs[name], activation, calibration.activations[name], specs.activation), abs=0.05),
        )


@pytest.mark.parametrize("name", ["adaround", "adaround+bias", "minmax+bias"])
def test_the_sqnr_of_a_weight_that_is_more_than_a_range_is_that_of_the_weight(tiny, batches, name):
    prepared = prepare(tiny, Protocol(), Bits(3, 5))
    calibration = calibrate(prepared, batches, no_report)
    strategy = Strategy({"stem": Choice(name, "mse", Bits(3, 5))}, Bits(3, 5), Protocol())
    exact = prepared.layers["stem"].weight
    made = quantized_weight(weight_candidate(name), "stem", prepared, calibration).weight
    expected = 10 * torch.log10(exact.square().sum() / (made - exact).square().sum()).item()
    assert layer_sqnr(prepared, calibration, strategy)["stem"][0] == pytest.approx(expected, rel=1e-4)


def test_a_layer_that_only_saw_zeros_has_no_sqnr(tiny, batches):
    prepared = prepare(tiny, Protocol(), Bits(4, 4))
    calibration = calibrate(prepared, [0 * batches[0]], no_report)
    strategy = Strategy({"stem": Choice("mse", "mse", Bits(4, 4))}, Bits(4, 4), Protocol())
    weight, activation = layer_sqnr(prepared, calibration, strategy)["stem"]
    assert weight is not None
    assert activation is None
