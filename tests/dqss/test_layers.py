import copy
from itertools import product

import pytest
import torch
from torch import nn

from dqss.functional import fake_quantize, qparams_from_range
from dqss.layers import CandidateLayer, QuantizedLayer
from dqss.spec import QuantSpec

KINDS = {
    "conv": (nn.Conv2d(3, 4, 3, stride=2, padding=1), (2, 3, 6, 6)),
    "depthwise": (nn.Conv2d(3, 3, 3, groups=3), (2, 3, 6, 6)),
    "transposed": (nn.ConvTranspose1d(3, 4, 3), (2, 3, 6)),
    "linear": (nn.Linear(3, 4), (2, 3)),
}


def parts(kind):
    """A layer, three candidates for its weight, two for its inputs, and inputs."""
    layer, shape = KINDS[kind]
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(3, *layer.weight.shape, generator=generator)
    spec = QuantSpec(3, symmetric=False)
    qparams = [qparams_from_range(torch.tensor([-r]), torch.tensor([r]), spec) for r in (1.0, 2.3)]
    return layer, weights, qparams, torch.randn(shape, generator=generator)


@pytest.mark.parametrize("kind", KINDS)
def test_a_quantized_layer_runs_its_layer_on_the_quantized_weight_and_inputs(kind):
    layer, weights, qparams, x = parts(kind)
    quantized = QuantizedLayer(copy.deepcopy(layer), weights[1], qparams[0])
    plain = copy.deepcopy(layer)
    plain.weight.data = weights[1]
    assert quantized(x).equal(plain(fake_quantize(x, qparams[0])))


def test_a_quantized_layer_keeps_its_grids_in_its_state():
    layer, weights, qparams, _ = parts("linear")
    quantized = QuantizedLayer(copy.deepcopy(layer), weights[0], qparams[1])
    assert set(quantized.state_dict()) == {"layer.weight", "layer.bias", "scale", "zero_point"}
    assert quantized.activation == qparams[1]
    assert not quantized.layer.weight.requires_grad


@pytest.mark.parametrize("kind", KINDS)
def test_the_chosen_pair_of_candidates_runs_as_the_quantized_layer(kind):
    layer, weights, qparams, x = parts(kind)
    candidates = CandidateLayer(layer, weights, qparams)
    for weight, activation in product(range(3), range(2)):
        candidates.choose(weight, activation)
        quantized = QuantizedLayer(copy.deepcopy(layer), weights[weight], qparams[activation])
        assert candidates(x).equal(quantized(x))


@pytest.mark.parametrize("kind", KINDS)
def test_a_mixture_of_one_is_a_choice(kind):
    layer, weights, qparams, x = parts(kind)
    candidates = CandidateLayer(layer, weights, qparams)
    for weight, activation in product(range(3), range(2)):
        candidates.choose(weight, activation)
        chosen = candidates(x)
        candidates.mix(torch.eye(3)[weight], torch.eye(2)[activation])
        assert torch.allclose(candidates(x), chosen, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_a_mixture_is_the_mean_of_all_pairs_the_bias_included(kind):
    layer, weights, qparams, x = parts(kind)
    candidates = CandidateLayer(layer, weights, qparams)
    p, q = torch.tensor([0.5, 0.3, 0.2]), torch.tensor([0.4, 0.6])
    expected = 0
    for weight, activation in product(range(3), range(2)):
        candidates.choose(weight, activation)
        expected = expected + p[weight] * q[activation] * candidates(x)
    candidates.mix(p, q)
    assert torch.allclose(candidates(x), expected, rtol=1e-5, atol=1e-6)


def own_biases(layer):
    """One for each of three weight candidates."""
    outputs = layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels
    return torch.arange(3.0 * outputs).view(3, outputs)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("biased", [True, False])
def test_a_mixture_of_candidates_with_biases_of_their_own_is_the_sum_over_all_pairs(kind, biased):
    layer, weights, qparams, x = parts(kind)
    layer = copy.deepcopy(layer)
    biases = own_biases(layer)
    layer.bias = layer.bias if biased else None
    candidates = CandidateLayer(layer, weights, qparams, biases)
    p, q = torch.tensor([0.5, 0.3, 0.2]), torch.tensor([0.4, 0.6])
    expected = 0
    for weight, activation in product(range(3), range(2)):
        plain = copy.deepcopy(layer)
        plain.weight.data, plain.bias = weights[weight], nn.Parameter(biases[weight])
        expected = expected + p[weight] * q[activation] * plain(fake_quantize(x, qparams[activation]))
        candidates.choose(weight, activation)
        quantized = QuantizedLayer(copy.deepcopy(layer), weights[weight], qparams[activation], biases[weight])
        assert candidates(x).equal(quantized(x))
        assert quantized.layer.bias.equal(biases[weight])
    candidates.mix(p, q)
    assert torch.allclose(candidates(x), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("biased", [True, False])
def test_a_blend_is_between_full_precision_and_the_mixture(kind, biased):
    layer, weights, qparams, x = parts(kind)
    layer = copy.deepcopy(layer)
    biases = own_biases(layer)
    layer.bias = layer.bias if biased else None
    candidates = CandidateLayer(copy.deepcopy(layer), weights, qparams, biases)
    p, q = torch.tensor([0.5, 0.3, 0.2]), torch.tensor([0.4, 0.6])
    own_bias = layer.bias if biased else torch.zeros_like(biases[0])
    blended = copy.deepcopy(layer)
    blended.weight.data = 0.75 * layer.weight + 0.25 * torch.einsum("m,m...->...", p, weights)
    blended.bias = nn.Parameter(0.75 * own_bias + 0.25 * p @ biases)
    grids = [fake_quantize(x, grid) for grid in qparams]
    expected = blended(0.75 * x + 0.25 * (q[0] * grids[0] + q[1] * grids[1]))
    candidates.mix(p, q, 0.25)
    assert torch.allclose(candidates(x), expected, rtol=1e-5, atol=1e-5)
    candidates.mix(p, q, 0.0)
    assert torch.allclose(candidates(x), layer(x), rtol=1e-5, atol=1e-5)


def test_a_choice_ends_a_mixture():
    layer, weights, qparams, x = parts("linear")
    candidates = CandidateLayer(layer, weights, qparams)
    candidates.choose(2, 1)
    before = candidates(x)
    candidates.mix(torch.ones(3) / 3, torch.ones(2) / 2)
    candidates.choose(2, 1)
    assert candidates(x).equal(before)


def test_candidates_leave_the_layers_own_weight():
    layer, weights, qparams, x = parts("conv")
    before = layer.weight.clone()
    candidates = CandidateLayer(layer, weights, qparams)
    candidates.mix(torch.ones(3) / 3, torch.ones(2) / 2)
    candidates(x)
    assert layer.weight.equal(before)


def test_the_gradient_reaches_both_kinds_of_mixing_weights():
    layer, weights, qparams, x = parts("conv")
    candidates = CandidateLayer(layer, weights, qparams)
    alpha_w, alpha_a = torch.zeros(3, requires_grad=True), torch.zeros(2, requires_grad=True)
    candidates.mix(alpha_w.softmax(0), alpha_a.softmax(0))
    candidates(x).square().sum().backward()
    for alpha in (alpha_w, alpha_a):
        assert alpha.grad.abs().max() > 0
        assert abs(alpha.grad.sum().item()) <= 1e-4 * alpha.grad.abs().sum().item()


def test_a_quantized_layer_shows_what_its_layer_shows():
    layer = nn.Conv2d(2, 3, 1, stride=2)
    grid = qparams_from_range(torch.tensor([-1.0]), torch.tensor([1.0]), QuantSpec(4, symmetric=False))
    quantized = QuantizedLayer(layer, torch.ones(3, 2, 1, 1), grid)
    assert quantized.stride == (2, 2)
    assert quantized.weight.eq(1).all()
    with pytest.raises(AttributeError, match="no attribute 'kind'"):
        _ = quantized.kind
