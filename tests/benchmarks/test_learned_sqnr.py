import copy

import pytest
import torch
from torch import nn

from benchmarks.learned_sqnr import learned_sqnr
from dqss.calibrate import calibrate
from dqss.graph import prepare
from dqss.ranges import find_start
from dqss.search.base import no_report
from dqss.spec import PROTOCOLS, Bits
from dqss.supernet import activation_algorithms, settled, supernet_of, weight_algorithms


def test_it_is_the_power_of_what_is_rounded_over_the_power_of_the_error():
    """Against the quantized model's own layers, run one after the other by hand."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)).eval()
        batches = [torch.randn(8, 4), torch.randn(5, 4)]
    prepared = prepare(copy.deepcopy(network), PROTOCOLS["all-layers"], Bits(3, 3))
    calibration = calibrate(prepared, batches, no_report)
    start = find_start(prepared, calibration, batches, "best-uniform", 0, None, no_report).strategy
    supernet = supernet_of(prepared, calibration, start, weight_algorithms(["lsq"]), activation_algorithms(["lsq"]))
    model = settled(supernet)
    found = learned_sqnr(model, list(supernet.layers), batches)
    x = torch.cat(batches)
    for (name, layer), exact in zip(supernet.layers.items(), (network[0], network[2]), strict=True):
        quantized = layer.weight_quantizers[0](exact.weight)
        inputs = layer.activation_quantizers[0](x)
        expected = [
            (10 * (signal.square().sum() / (made - signal).square().sum()).log10()).item()
            for signal, made in ((exact.weight.detach(), quantized), (x, inputs))
        ]
        assert found[name] == pytest.approx(expected, rel=1e-4)
        x = torch.relu(nn.functional.linear(inputs, quantized, exact.bias)).detach()
    assert not any(layer._forward_pre_hooks for layer in supernet.layers.values())
