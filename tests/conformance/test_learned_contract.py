"""What every learned quantizer keeps to, whatever its algorithm."""

import copy
import dataclasses
import re
import sys

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dqss.calibrate import TensorSummary
from dqss.functional import fake_quantize
from dqss.learned import LEARNED
from dqss.learned.base import LearnedQuantizer
from dqss.spec import QuantSpec

WEIGHT, PER_CHANNEL = QuantSpec(3, symmetric=True), QuantSpec(3, symmetric=True, channel_axis=0)
ACTIVATION = QuantSpec(3, symmetric=False)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


# Outputs first, as a weight's channels; for activations the first axis is the batch.
TENSORS = {
    "normal": random(4, 3, 5),
    "rectified": random(4, 3, 5).clamp(min=0),
    "negative": -random(4, 3, 5).abs(),
    "zeros": torch.zeros(4, 3, 5),
    "constant": torch.full((4, 3, 5), 3.0),
    "negative constant": torch.full((4, 3, 5), -3.0),
    "one channel of zeros": random(4, 3, 5) * torch.tensor([1.0, 0.0, 1.0, 1.0]).view(4, 1, 1),
    "an outlier": torch.cat([random(4, 3, 5).flatten()[:-1], torch.tensor([1e4])]).view(4, 3, 5),
    "huge": 1e30 * random(4, 3, 5),
    "tiny": 1e-30 * random(4, 3, 5),
}
ALGORITHMS = {name: LEARNED.create(name) for name in LEARNED}
WITH_WEIGHT = [name for name, found in ALGORITHMS.items() if found.weight_from is None]
WITH_ACTIVATION = [name for name, found in ALGORITHMS.items() if found.activation_from is None]


def summary_of(x: Tensor, axis: int | None = None) -> TensorSummary:
    summary = TensorSummary(axis)
    summary.update(x)
    return summary


def weight_form(name: str, x: Tensor, spec: QuantSpec = WEIGHT) -> LearnedQuantizer:
    return ALGORITHMS[name].for_weight(x, summary_of(x, spec.channel_axis), spec)


def activation_form(name: str, x: Tensor, spec: QuantSpec = ACTIVATION) -> LearnedQuantizer:
    return ALGORITHMS[name].for_activation(summary_of(x), spec)


FORMS = {
    **{f"{name}, weight": (lambda x, n=name: weight_form(n, x)) for name in WITH_WEIGHT},
    **{f"{name}, weight, per channel": (lambda x, n=name: weight_form(n, x, PER_CHANNEL)) for name in WITH_WEIGHT},
    **{f"{name}, activation": (lambda x, n=name: activation_form(n, x)) for name in WITH_ACTIVATION},
    **{f"{name}, activation, symmetric": (lambda x, n=name: activation_form(n, x, WEIGHT)) for name in WITH_ACTIVATION},
}
every_form = pytest.mark.parametrize("form", [pytest.param(make, id=name) for name, make in FORMS.items()])
every_tensor = pytest.mark.parametrize("kind", TENSORS)
every_algorithm = pytest.mark.parametrize("name", list(LEARNED))


@every_form
@every_tensor
def test_values_and_gradients_are_defined_whatever_the_tensor(form, kind):
    quantizer = form(TENSORS[kind])
    for values in (TENSORS[kind], TENSORS[kind] * 3, -TENSORS[kind], torch.zeros(4, 3, 5)):
        x = values.clone().requires_grad_()
        result = quantizer(x)
        assert (result.shape, result.dtype) == (x.shape, x.dtype)
        assert result.isfinite().all()
        quantizer.zero_grad()
        result.sum().backward()
        assert x.grad.isfinite().all()
        for parameter in quantizer.parameters():
            assert parameter.grad is None or parameter.grad.isfinite().all()


@every_form
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_the_type_stays(form, dtype):
    quantizer = form(TENSORS["normal"])
    result = quantizer(TENSORS["normal"].to(dtype))
    assert result.dtype == dtype
    # What half precision loses may take a value to the next level, but few.
    assert ((result.float() - quantizer(TENSORS["normal"])).abs() > 0.02).float().mean() < 0.05


@every_form
@pytest.mark.parametrize("kind", ["normal", "rectified", "negative", "an outlier", "one channel of zeros"])
def test_levels_are_as_many_as_the_bits_allow(form, kind):
    quantizer = form(TENSORS[kind])
    if quantizer.spec.channel_axis is None:
        result = quantizer(torch.cat([TENSORS[kind], random(4, 300, 5) * TENSORS[kind].abs().max()], dim=1))
        assert len(result.unique().mul(1e5).round().unique()) <= 2**3


@every_form
@pytest.mark.parametrize("kind", ["normal", "rectified", "negative", "constant", "zeros", "an outlier"])
def test_a_uniform_quantizer_gives_what_its_grid_gives_after_training_too(form, kind):
    x = TENSORS[kind]
    quantizer = form(x)
    if not ALGORITHMS_OF[form].uniform:
        with pytest.raises(NotImplementedError, match="has no uniform grid"):
            quantizer.qparams()
        return
    for _ in range(4):
        result = quantizer(x)
        grid = quantizer.qparams()
        assert grid.spec == quantizer.spec
        assert (grid.scale > 0).all()
        assert ((grid.zero_point >= grid.spec.quant_min) & (grid.zero_point <= grid.spec.quant_max)).all()
        torch.testing.assert_close(result, fake_quantize(quantizer.transformed(x), grid))
        with torch.no_grad():
            for position, parameter in enumerate(quantizer.parameters()):
                parameter.add_(0.37 * parameter.abs().mean() * (-1) ** position)


@every_form
def test_the_state_can_be_saved_and_restored(form):
    quantizer, other = form(TENSORS["normal"]), form(TENSORS["normal"] * 2)
    with torch.no_grad():
        for parameter in quantizer.parameters():
            parameter.mul_(1.3)
    quantizer(TENSORS["normal"])
    other.load_state_dict(copy.deepcopy(quantizer.state_dict()))
    quantizer.eval()
    other.eval()
    assert other(TENSORS["normal"]).equal(quantizer(TENSORS["normal"]))


@pytest.mark.parametrize("name", WITH_ACTIVATION)
def test_an_empty_batch_stays_empty(name):
    quantizer = activation_form(name, TENSORS["normal"])
    assert quantizer(torch.zeros(0, 3, 5)).shape == (0, 3, 5)


@every_form
def test_zero_stays_zero(form):
    assert form(TENSORS["normal"])(torch.zeros(4, 3, 5)).abs().max() == 0


@pytest.mark.parametrize("name", WITH_ACTIVATION)
def test_signed_inputs_keep_their_sign_and_rectified_ones_use_all_levels(name):
    x = random(50, 40)
    signed = activation_form(name, x)(x)
    assert signed.min() < 0 < signed.max()
    quantizer = activation_form(name, x.relu())
    assert len(quantizer(torch.linspace(0, 20, 5000)).unique()) == 2**3


@pytest.mark.parametrize("name", WITH_WEIGHT)
def test_a_channel_is_quantized_as_it_would_be_alone(name):
    x = random(2, 40) * torch.tensor([[1.0], [0.01]])
    both = weight_form(name, x, PER_CHANNEL)(x)
    for channel in range(2):
        torch.testing.assert_close(both[channel], weight_form(name, x[channel])(x[channel]))


@every_form
@every_tensor
def test_the_weight_that_a_module_starts_from_is_not_changed(form, kind):
    x = TENSORS[kind].clone()
    form(x)(x)
    assert x.equal(TENSORS[kind])


@pytest.mark.parametrize("bits", [2, 3])
@every_algorithm
def test_a_small_convolution_learns_at_few_bits_from_the_first_step(name, bits):
    losses, largest = trained(name, bits, rectify=True)
    assert max(losses) < 1.2 * losses[0]
    assert losses[-1] < 0.85 * losses[0]
    assert largest < 1


@pytest.mark.parametrize("bits", [2, 3])
@every_algorithm
def test_signed_inputs_learn_too(name, bits):
    losses, largest = trained(name, bits, rectify=False)
    assert max(losses) < 1.2 * losses[0]
    assert losses[-1] < 0.9 * losses[0]
    assert largest < 1


def trained(name: str, bits: int, rectify: bool) -> tuple[list[float], float]:
    """Fit a quantized layer to another's outputs; return the losses and the largest gradient of a parameter."""
    weight_name = ALGORITHMS[name].weight_from or name
    activation_name = ALGORITHMS[name].activation_from or name
    x = random(16, 4, 8, 8)
    x = x.relu() if rectify else x
    weight = nn.Parameter(0.2 * random(8, 4, 3, 3, seed=1))
    target = F.conv2d(x, weight.detach() + 0.1 * random(8, 4, 3, 3, seed=2))
    w = weight_form(weight_name, weight.detach(), QuantSpec(bits, symmetric=True))
    a = activation_form(activation_name, x, QuantSpec(bits, symmetric=False))
    learned = [p for p in [*w.parameters(), *a.parameters()] if p.requires_grad]
    optimizer = torch.optim.SGD([{"params": [weight], "lr": 0.02}, {"params": learned, "lr": 0.01}], momentum=0.9)
    losses, largest = [], 0.0
    for _ in range(40):
        loss = (F.conv2d(a(x), w(weight)) - target).square().mean() / target.var()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        largest = max([largest, *(p.grad.norm().item() for p in learned)])
    return losses, largest


@every_algorithm
def test_an_algorithm_without_a_form_names_one_that_has_it(name):
    algorithm = ALGORITHMS[name]
    assert algorithm.weight_from is None or algorithm.activation_from is None
    x = TENSORS["normal"]
    if algorithm.weight_from is not None:
        assert algorithm.weight_from in WITH_WEIGHT
        with pytest.raises(NotImplementedError, match=f"no form for weights. Take '{algorithm.weight_from}'"):
            weight_form(name, x)
    if algorithm.activation_from is not None:
        assert algorithm.activation_from in WITH_ACTIVATION
        with pytest.raises(NotImplementedError, match=f"no form for activations. Take '{algorithm.activation_from}'"):
            activation_form(name, x)


@every_algorithm
def test_options_are_the_fields_of_a_frozen_dataclass(name):
    algorithm = ALGORITHMS[name]
    assert dataclasses.is_dataclass(algorithm)
    assert type(algorithm).__dataclass_params__.frozen
    assert type(algorithm)() == algorithm


@every_algorithm
def test_a_summary_without_values_is_refused(name):
    if name in WITH_WEIGHT:
        with pytest.raises(ValueError, match="it has seen no value"):
            weight_form(name, torch.zeros(0, 2))
    if name in WITH_ACTIVATION:
        with pytest.raises(ValueError, match="it has seen no value"):
            activation_form(name, torch.zeros(0, 2))


@every_algorithm
def test_the_module_cites_its_source(name):
    source = sys.modules[type(ALGORITHMS[name]).__module__].__doc__
    assert re.search(r"\((?:[A-Za-z/]+\s(?:19|20)\d\d|arXiv\s\d{4}\.\d{5})\)", source)
    assert re.search(r"section|equation", source)


ALGORITHMS_OF = {make: ALGORITHMS[name.split(",")[0]] for name, make in FORMS.items()}
