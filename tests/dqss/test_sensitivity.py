import pytest
import torch

from dqss.calibrate import calibrate
from dqss.graph import prepare
from dqss.matching import mse
from dqss.ptq import pose
from dqss.quantizers import QUANTIZERS
from dqss.search.base import no_report
from dqss.sensitivity import layer_sensitivity
from dqss.spec import Bits, Protocol
from dqss.strategy import Choice, Strategy

BITS = Bits(3, 3)


@pytest.fixture
def calibrated(tiny, batches):
    prepared = prepare(tiny, Protocol(), BITS)
    return prepared, calibrate(prepared, batches, no_report), batches


def test_a_layers_sensitivity_is_the_loss_with_its_output_alone_disturbed(calibrated):
    prepared, calibration, batches = calibrated
    strategy = Strategy({name: Choice("mse", "minmax", BITS) for name in prepared.layers}, BITS, Protocol())
    found = layer_sensitivity(prepared, calibration, batches, mse, strategy, {})
    assert list(found) == list(prepared.layers)
    # Another way to the same: hooks put one quantized layer's output in the place of the exact one's.
    quantizers = {name: QUANTIZERS.create(name) for name in ("mse", "minmax")}
    problem = pose(prepared, calibration, batches, {"mse": quantizers["mse"]}, {"minmax": quantizers["minmax"]}, "mse")
    problem.choose(problem.uniform(0, 0))
    for name, layer in prepared.layers.items():
        quantized = problem.layers[name]
        hook = layer.register_forward_hook(lambda module, args, out, quantized=quantized: quantized(*args))
        with torch.no_grad():
            losses = [
                mse(prepared.model(x), y).item() * len(y) for x, y in zip(batches, calibration.targets, strict=True)
            ]
        hook.remove()
        assert found[name] == pytest.approx(sum(losses) / sum(map(len, batches)), rel=1e-5)
        assert found[name] > 0


def test_what_is_known_is_not_worked_out_again_and_what_is_new_is_added(calibrated):
    prepared, calibration, batches = calibrated
    choices = {name: Choice("mse", "mse", BITS) for name in prepared.layers}
    first = next(iter(choices))
    known = {(first, choices[first]): 42.0}
    found = layer_sensitivity(prepared, calibration, batches, mse, Strategy(choices, BITS, Protocol()), known)
    assert found[first] == 42.0
    assert known == {(name, choices[name]): found[name] for name in choices}
    other = choices | {first: Choice("kl", "mse", BITS)}
    changed = layer_sensitivity(prepared, calibration, batches, mse, Strategy(other, BITS, Protocol()), known)
    assert changed[first] != 42.0
    assert {name: changed[name] for name in choices if name != first} == {
        name: found[name] for name in choices if name != first
    }


def test_the_model_stays_in_full_precision(calibrated):
    prepared, calibration, batches = calibrated
    before = {name: layer.weight.clone() for name, layer in prepared.layers.items()}
    strategy = Strategy({name: Choice("mse", "mse", BITS) for name in prepared.layers}, BITS, Protocol())
    layer_sensitivity(prepared, calibration, batches, mse, strategy, {})
    assert all(torch.equal(layer.weight, before[name]) for name, layer in prepared.layers.items())
    assert torch.equal(prepared.model(batches[0]), calibration.targets[0])
