import math
from fractions import Fraction

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from dqss.functional import Qparams, fake_quantize, qparams_from_range
from dqss.spec import QuantSpec

PROPERTY = settings(deadline=None, derandomize=True, max_examples=60, suppress_health_check=[HealthCheck.too_slow])

specs = st.builds(QuantSpec, bits=st.integers(2, 8), symmetric=st.booleans())
reals = st.floats(-1e6, 1e6, width=32)


def grid(low: float, high: float, spec: QuantSpec) -> Qparams:
    return qparams_from_range(torch.tensor([low]), torch.tensor([high]), spec)


def naive(x: Tensor, scale: float, zero_point: int, spec: QuantSpec) -> Tensor:
    """Fake quantization in exact arithmetic, value by value."""

    def one(value: float) -> float:
        code = round(Fraction(value) / Fraction(scale)) + zero_point
        return float((min(max(code, spec.quant_min), spec.quant_max) - zero_point) * Fraction(scale))

    return torch.tensor([one(value) for value in x.flatten().tolist()]).reshape(x.shape)


def test_affine_parameters_by_hand():
    qparams = grid(-1.0, 4.0, QuantSpec(4, symmetric=False))
    assert qparams.scale.tolist() == [pytest.approx(1 / 3)]
    assert qparams.zero_point.tolist() == [3]


def test_symmetric_parameters_by_hand():
    qparams = grid(-1.0, 3.75, QuantSpec(4, symmetric=True))
    # 15 steps cover [-3.75, 3.75].
    assert qparams.scale.tolist() == [0.5]
    assert qparams.zero_point.tolist() == [0]


@pytest.mark.parametrize(("low", "high", "zero_point"), [(2.0, 3.0, 0), (-3.0, -2.0, 15)])
def test_an_affine_range_is_widened_to_hold_zero(low, high, zero_point):
    qparams = grid(low, high, QuantSpec(4, symmetric=False))
    assert qparams.zero_point.tolist() == [zero_point]
    assert qparams.scale.tolist() == [pytest.approx(3 / 15)]


@PROPERTY
@given(specs, reals, reals)
def test_the_grid_reaches_both_ends_and_zero_is_on_it(spec, a, b):
    low, high = min(a, b), max(a, b)
    qparams = grid(low, high, spec)
    scale, zero_point = qparams.scale.item(), qparams.zero_point.item()
    assert scale > 0
    assert spec.quant_min <= zero_point <= spec.quant_max
    assert fake_quantize(torch.zeros(1), qparams).item() == 0
    for end in (min(low, 0.0), max(high, 0.0)):
        # Half a step where the end falls between levels; the affine zero_point's rounding shifts by half a step too.
        assert abs(fake_quantize(torch.tensor([end]), qparams).item() - end) <= scale * (1 + 1e-4)


@PROPERTY
@given(specs, reals, reals, st.lists(reals, min_size=1, max_size=8))
def test_values_land_on_the_grid_and_stay_there(spec, a, b, values):
    qparams = grid(min(a, b), max(a, b), spec)
    once = fake_quantize(torch.tensor(values), qparams)
    codes = once.double() / qparams.scale.double() + qparams.zero_point
    assert torch.allclose(codes, codes.round(), atol=1e-3)
    assert codes.round().min() >= spec.quant_min
    assert codes.round().max() <= spec.quant_max
    assert fake_quantize(once, qparams).equal(once)


@PROPERTY
@given(specs, st.integers(-3, 3), st.lists(st.integers(-4000, 4000), min_size=1, max_size=20), st.data())
def test_fake_quantization_equals_exact_arithmetic_ties_included(spec, exponent, eighths, data):
    # A scale that is a power of two makes eighths of it exact, halves (ties to even) among them.
    scale = 2.0**exponent
    zero_point = 0 if spec.symmetric else data.draw(st.integers(spec.quant_min, spec.quant_max))
    qparams = Qparams(torch.tensor([scale]), torch.tensor([zero_point], dtype=torch.int32), spec)
    x = torch.tensor(eighths) * (scale / 8)
    assert fake_quantize(x, qparams).equal(naive(x, scale, zero_point, spec))


def test_per_channel_equals_each_channel_alone():
    x = torch.randn(3, 4, 2, generator=torch.Generator().manual_seed(0))
    low, high = x.transpose(0, 1).flatten(1).aminmax(dim=1)
    whole = fake_quantize(x, qparams_from_range(low, high, QuantSpec(3, symmetric=True, channel_axis=1)))
    for channel in range(4):
        alone = qparams_from_range(low[[channel]], high[[channel]], QuantSpec(3, symmetric=True))
        assert whole[:, channel].equal(fake_quantize(x[:, channel], alone))


def on_and_beside_ties(qparams: Qparams) -> Tensor:
    """Return (C, K): for each scale the ties of rounding, a float beside each, and values off the grid."""
    codes = torch.arange(-300, 300) + 0.5
    ties = codes * qparams.scale[:, None]
    infinity = torch.tensor(torch.inf)
    return torch.cat([ties, ties.nextafter(-infinity), ties.nextafter(infinity), 1e4 * ties, 0 * ties], dim=1)


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("bits", [2, 3, 5, 8])
@pytest.mark.parametrize("axis", [None, 0, 1])
def test_values_and_gradients_are_those_of_pytorchs_kernels_to_the_bit(symmetric, bits, axis):
    spec = QuantSpec(bits, symmetric, axis)
    generator = torch.Generator().manual_seed(bits)
    ends = 0.1 + 5 * torch.rand(2, 1 if axis is None else 3, generator=generator)
    qparams = qparams_from_range(-ends[0], ends[1], spec)
    x = on_and_beside_ties(qparams)
    if axis == 1:
        x = x.t().contiguous()
    limits = (spec.quant_min, spec.quant_max)

    def kernel(x: Tensor) -> Tensor:
        if axis is None:
            return torch.fake_quantize_per_tensor_affine(x, qparams.scale[0], qparams.zero_point[0], *limits)
        return torch.fake_quantize_per_channel_affine(x, qparams.scale, qparams.zero_point, axis, *limits)

    upstream = torch.randn(x.shape, generator=generator)
    outcomes = []
    for function in (kernel, lambda x: fake_quantize(x, qparams)):
        leaf = x.clone().requires_grad_()
        output = function(leaf)
        outcomes.append((output.detach(), torch.autograd.grad(output, leaf, upstream)[0]))
    (expected, expected_gradient), (values, gradient) = outcomes
    assert values.equal(expected)
    assert gradient.equal(expected_gradient)


@pytest.mark.parametrize("axis", [None, 0])
def test_values_far_off_the_grid_are_clipped_to_its_ends(axis):
    qparams = Qparams(
        torch.ones(1), torch.tensor([3], dtype=torch.int32), QuantSpec(4, symmetric=False, channel_axis=axis)
    )
    x = torch.tensor([[1e30, -1e30, torch.inf, -torch.inf, 1e19, -1e19]])
    assert fake_quantize(x, qparams).tolist() == [[12, -3, 12, -3, 12, -3]]


def test_the_input_stays_as_it_was_and_needs_no_gradient():
    x = torch.randn(20, generator=torch.Generator().manual_seed(0))
    before = x.clone()
    assert not fake_quantize(x, grid(-1.0, 1.0, QuantSpec(4, symmetric=False))).requires_grad
    assert x.equal(before)


@pytest.mark.parametrize("axis", [None, 0])
def test_the_gradient_passes_on_the_grid_and_stops_where_it_clips(axis):
    spec = QuantSpec(2, symmetric=True, channel_axis=axis)
    qparams = Qparams(torch.tensor([1.0]), torch.tensor([0], dtype=torch.int32), spec)
    x = torch.tensor([[-3.0, -2.6, -2.5, -2.0, 0.3, 1.0, 1.49, 1.51, 2.0]], requires_grad=True)
    fake_quantize(x, qparams).sum().backward()
    # -2.5 rounds to even, -2, the lowest code.
    assert x.grad.tolist() == [[0, 0, 1, 1, 1, 1, 1, 0, 0]]


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("magnitude", [1e30, 1e-30, 1e-38, 1e-45])
def test_extreme_magnitudes_have_a_finite_grid(symmetric, bits, magnitude):
    spec = QuantSpec(bits, symmetric)
    x = torch.tensor([-magnitude, 0.0, magnitude])
    qparams = qparams_from_range(x[:1], x[2:], spec)
    assert math.isfinite(qparams.scale.item())
    assert math.isfinite(1 / qparams.scale.item())
    quantized = fake_quantize(x, qparams)
    assert quantized.isfinite().all()
    assert ((quantized - x).abs() <= qparams.scale).all()


@pytest.mark.parametrize("symmetric", [True, False])
def test_a_range_without_extent_keeps_zero(symmetric):
    qparams = grid(0.0, 0.0, QuantSpec(4, symmetric))
    assert qparams.scale.tolist() == [1.0]
    assert fake_quantize(torch.zeros(3), qparams).tolist() == [0, 0, 0]


@pytest.mark.parametrize("value", [5.0, -5.0])
@pytest.mark.parametrize("symmetric", [True, False])
def test_a_constant_is_kept_to_half_a_step(value, symmetric):
    qparams = grid(value, value, QuantSpec(4, symmetric))
    quantized = fake_quantize(torch.tensor([value]), qparams)
    assert abs(quantized.item() - value) <= qparams.scale.item() / 2 * (1 + 1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_gets_the_grid_point_that_float32_gets(dtype):
    x = torch.linspace(-1.2, 3.1, 999).to(dtype)
    qparams = grid(-1.1, 2.9, QuantSpec(8, symmetric=False))
    found = fake_quantize(x, qparams)
    assert found.dtype == dtype
    assert found.equal(fake_quantize(x.float(), qparams).to(dtype))
    steps = found.double() / qparams.scale.double()
    assert (steps - steps.round()).abs().max() < 256 * torch.finfo(dtype).eps
