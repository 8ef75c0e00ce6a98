import copy

import pytest
import torch
from torch import nn

from dqss.calibrate import calibrate
from dqss.graph import prepare
from dqss.moments import MOST_SIZES, MeanInput, patches, rows, second_moments, unrows
from dqss.search.base import no_report
from dqss.spec import PROTOCOLS, Bits
from dqss.weights import moments_of

LAYERS = {
    "conv": (nn.Conv2d(3, 4, 3, stride=2, padding=1), (2, 3, 6, 7)),
    "grouped, dilated": (nn.Conv2d(4, 6, (3, 2), groups=2, dilation=2, padding=(2, 1)), (2, 4, 7, 6)),
    "depthwise": (nn.Conv2d(3, 6, 3, groups=3, bias=False), (2, 3, 6, 6)),
    "circular": (nn.Conv1d(2, 3, 3, padding=1, padding_mode="circular"), (2, 2, 6)),
    "three axes": (nn.Conv3d(2, 3, 2), (2, 2, 3, 4, 3)),
    "transposed": (nn.ConvTranspose2d(3, 4, 3, stride=2, padding=1, output_padding=1), (2, 3, 4, 5)),
    "transposed, grouped": (nn.ConvTranspose1d(4, 6, 3, groups=2, stride=3, bias=False), (2, 4, 5)),
    "linear": (nn.Linear(5, 3), (4, 5)),
    "linear over tokens": (nn.Linear(5, 3), (2, 4, 5)),
    "without a batch axis": (nn.Conv2d(3, 4, 3, padding=1), (3, 5, 5)),
}
every_layer = pytest.mark.parametrize("kind", LAYERS)


def layer_and_inputs(kind):
    layer, shape = LAYERS[kind]
    return layer, torch.randn(shape, generator=torch.Generator().manual_seed(0)) + 0.5


def channels_first(layer, output):
    """(C_out, images and positions) of a layer's output."""
    if isinstance(layer, nn.Linear):
        return output.reshape(-1, layer.out_features).T
    return (output if output.ndim == layer.weight.ndim else output[None]).transpose(0, 1).flatten(1)


def without_bias(layer, x):
    plain = copy.deepcopy(layer)
    plain.bias = None
    with torch.no_grad():
        return channels_first(layer, plain(x))


@every_layer
def test_rows_times_patches_are_the_layers_outputs(kind):
    layer, x = layer_and_inputs(kind)
    product = torch.bmm(rows(layer, layer.weight.detach()), patches(layer, x)).flatten(0, 1)
    assert torch.allclose(product, without_bias(layer, x), atol=1e-5)


@every_layer
def test_unrows_undoes_rows(kind):
    layer, _ = layer_and_inputs(kind)
    assert unrows(layer, rows(layer, layer.weight)).equal(layer.weight)


@every_layer
def test_the_output_of_the_mean_is_the_mean_of_the_outputs(kind):
    layer, x = layer_and_inputs(kind)
    mean = MeanInput()
    mean.update(layer, x)
    mean.update(layer, 2 * x)
    expected = 1.5 * without_bias(layer, x).double().mean(1)
    with torch.no_grad():
        assert torch.allclose(mean.output(layer, layer.weight), expected, atol=1e-6)


def test_inputs_of_several_sizes_count_by_their_positions():
    layer, x = layer_and_inputs("conv")
    mean = MeanInput()
    inputs = [x, x[:1, :, :4], x[:, :, :, :5]]
    for part in inputs:
        mean.update(layer, part)
    expected = torch.cat([without_bias(layer, part) for part in inputs], dim=1).mean(1)
    with torch.no_grad():
        assert torch.allclose(mean.output(layer, layer.weight).float(), expected, atol=1e-6)


def test_memory_is_bounded_however_many_sizes_come():
    layer = nn.Conv1d(1, 1, 1)
    mean = MeanInput()
    for size in range(1, 3 * MOST_SIZES):
        mean.update(layer, torch.ones(1, 1, size))
    assert len(mean.sums) == MOST_SIZES
    assert mean.output(layer, torch.full((1, 1, 1), 3.0)) == 3


def test_second_moments_are_those_of_the_layers_inputs(tiny, batches):
    prepared = prepare(tiny, PROTOCOLS["all-layers"], Bits(4, 4))
    inputs = {}
    hooks = [
        layer.register_forward_pre_hook(lambda module, args, name=name: inputs.update({name: args[0]}))
        for name, layer in prepared.layers.items()
    ]
    prepared.model(torch.cat(batches))
    for hook in hooks:
        hook.remove()
    found = second_moments(prepared, batches)
    assert list(found) == list(inputs)
    for name, x in inputs.items():
        columns = patches(prepared.layers[name], x)
        expected = torch.einsum("gdp,gep->gde", columns, columns) / columns.shape[2]
        assert torch.allclose(found[name], expected, rtol=1e-4, atol=1e-6)


def test_many_positions_are_thinned_out_by_whole_images(monkeypatch):
    layer = nn.Conv2d(1, 1, 1, bias=False)
    network = nn.Sequential(layer)
    batches = [torch.full((10, 1, 4, 4), 1.0), torch.full((10, 1, 4, 4), 2.0)]
    # The first images of a batch stand for it: 64 patches are 4 images of 16 positions, 2 of each batch.
    monkeypatch.setattr("dqss.moments.PATCHES", 64)
    batches[0][2:] = batches[1][2:] = 100.0
    found = second_moments(prepare(network, PROTOCOLS["all-layers"], Bits(4, 4)), batches)["0"]
    assert found.item() == (1 + 4) / 2


def test_second_moments_are_worked_out_once(tiny, batches):
    prepared = prepare(tiny, PROTOCOLS["all-layers"], Bits(4, 4))
    calibration = calibrate(prepared, batches, no_report)
    assert not calibration.second_moments
    first = moments_of(prepared, calibration)
    assert moments_of(prepared.at(Bits(3, 3)), calibration)["stem"] is first["stem"]
