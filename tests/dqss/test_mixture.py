import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from dqss.functional import Qparams, fake_quantize, qparams_from_range
from dqss.mixture import ActivationMixture, boundaries_of, mix_weights
from dqss.spec import QuantSpec


def grids(bits: int, symmetric: bool, count: int, seed: int = 0) -> list[Qparams]:
    """Grids over ranges of different widths, as the candidates of one layer have."""
    generator = torch.Generator().manual_seed(seed)
    ends = 0.2 + 3 * torch.rand(count, 2, generator=generator)
    spec = QuantSpec(bits, symmetric)
    return [qparams_from_range(-low[None], high[None], spec) for low, high in ends]


def mixing_of(count: int, seed: int = 0) -> Tensor:
    return torch.randn(count, generator=torch.Generator().manual_seed(seed)).softmax(0)


def around_boundaries(qparams: list[Qparams], dtype: torch.dtype = torch.float32) -> Tensor:
    """Every rounding boundary, a float beside it on either side, and values far off the grid."""
    at = torch.cat([boundaries_of(q, dtype) for q in qparams])
    below, above = at.nextafter(torch.full_like(at, -torch.inf)), at.nextafter(torch.full_like(at, torch.inf))
    return torch.cat([at, below, above, torch.tensor([0.0, -0.0, 1e4, -1e4, 1e-30, -1e-30], dtype=dtype)])


def outcome(mixture, x: Tensor, mixing: Tensor, upstream: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The output of a mixture, and its gradients to x and to mixing."""
    x, mixing = x.clone().requires_grad_(), mixing.clone().requires_grad_()
    output = mixture(x, mixing)
    to_x, to_mixing = torch.autograd.grad(output, (x, mixing), upstream)
    return output.detach(), to_x, to_mixing


def assert_equals_the_sum(qparams: list[Qparams], x: Tensor, blend: float = 1.0) -> None:
    def efficient_mixture(x: Tensor, mixing: Tensor) -> Tensor:
        return ActivationMixture(qparams)(x, mixing, blend)

    def naive(x: Tensor, mixing: Tensor) -> Tensor:
        mixed = sum(weight * fake_quantize(x, q) for weight, q in zip(mixing, qparams, strict=True))
        return blend * mixed + (1 - blend) * x

    mixing = mixing_of(len(qparams))
    upstream = torch.randn(x.shape, generator=torch.Generator().manual_seed(3))
    efficient = outcome(efficient_mixture, x, mixing, upstream)
    expected = outcome(naive, x, mixing, upstream)
    # Each value by itself: one bucket off would be a whole step of a grid.
    reach = max((q.scale * 2**q.spec.bits).item() for q in qparams)
    assert torch.allclose(efficient[0], expected[0], rtol=1e-5, atol=1e-6 * reach)
    assert torch.allclose(efficient[1], expected[1], rtol=1e-5, atol=1e-6)
    assert (efficient[2] - expected[2]).double().norm() <= 1e-5 * reach * upstream.abs().sum().double()


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize(("bits", "count"), [(2, 8), (3, 1), (4, 16), (5, 2), (6, 7), (7, 3), (8, 16)])
def test_the_mixture_equals_the_sum_on_and_beside_every_rounding_boundary(bits, symmetric, count):
    qparams = grids(bits, symmetric, count, seed=bits)
    assert_equals_the_sum(qparams, around_boundaries(qparams))


@pytest.mark.parametrize("blend", [0.0, 0.3, 0.75])
@pytest.mark.parametrize("symmetric", [True, False])
def test_the_mixture_is_blended_with_its_input(symmetric, blend):
    qparams = grids(4, symmetric, count=8)
    assert_equals_the_sum(qparams, around_boundaries(qparams), blend)
    image = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0)).to(memory_format=torch.channels_last)
    assert_equals_the_sum(qparams, image, blend)


@pytest.mark.parametrize("shape", [(), (0,), (7,), (2, 3, 4), (2, 3, 4, 5)])
def test_the_mixture_takes_any_shape(shape):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    assert_equals_the_sum(grids(4, symmetric=False, count=3), x)


@pytest.mark.parametrize("strided", [lambda x: x.to(memory_format=torch.channels_last), lambda x: x.transpose(1, 3)])
def test_the_mixture_takes_inputs_that_are_not_contiguous(strided):
    x = strided(torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0)))
    assert_equals_the_sum(grids(4, symmetric=False, count=3), x)


@pytest.mark.parametrize(
    "strided",
    [
        lambda x: x.to(memory_format=torch.channels_last),
        lambda x: x.transpose(1, 3),
        lambda x: x[:, :1].transpose(0, 2),
        lambda x: x[:, :, :, :1].expand(2, 3, 4, 5),
    ],
)
def test_the_output_and_its_gradient_lie_in_memory_as_those_of_the_sum(strided):
    x = strided(torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))).detach().requires_grad_()
    qparams, mixing = grids(4, symmetric=False, count=3), mixing_of(3)
    output = ActivationMixture(qparams)(x, mixing)
    (gradient,) = torch.autograd.grad(output, x, torch.ones_like(output))
    expected = sum(weight * fake_quantize(x, q) for weight, q in zip(mixing, qparams, strict=True))
    assert torch.allclose(output, expected)
    assert (output.stride(), gradient.stride()) == (expected.stride(), expected.stride())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_an_input_of_another_type_is_rounded_as_fake_quantization_rounds_it(dtype, bits):
    qparams = grids(bits, symmetric=False, count=8)
    x = around_boundaries(qparams, dtype).requires_grad_()
    mixing = mixing_of(8).requires_grad_()
    upstream = torch.randn(x.shape, generator=torch.Generator().manual_seed(3)).to(dtype)
    output = ActivationMixture(qparams)(x, mixing)
    to_x, to_mixing = torch.autograd.grad(output, (x, mixing), upstream)
    assert (output.dtype, to_x.dtype, to_mixing.dtype) == (dtype, dtype, torch.float32)

    # Halves in float32; the candidates' sum is worked out in double.
    wide = x.detach().to(torch.promote_types(dtype, torch.float32)).requires_grad_()
    columns = [fake_quantize(wide, q) for q in qparams]
    slopes = [torch.autograd.grad(column.sum(), wide)[0].double() for column in columns]
    weights = mixing.detach().double()
    values = torch.stack(columns, dim=-1).detach().double()
    tolerance = {"rtol": 2 * torch.finfo(dtype).eps + 1e-15, "atol": 1e-6}
    assert torch.allclose(output.double(), values @ weights, **tolerance)
    assert torch.allclose(to_x.double(), upstream.double() * (torch.stack(slopes, dim=-1) @ weights), **tolerance)
    expected = upstream.double() @ values
    assert (to_mixing.double() - expected).norm() <= 1e-5 * (upstream.double().abs() @ values.abs()).norm()


@pytest.mark.parametrize("count", [1, 8])
def test_nan_goes_through_as_through_the_sum(count):
    qparams = grids(4, symmetric=False, count=count)
    x = torch.tensor([torch.nan, 0.5, -torch.nan, 1e4])
    output, to_x, to_mixing = outcome(ActivationMixture(qparams), x, mixing_of(count), torch.ones(4))
    assert output.isnan().tolist() == [True, False, True, False]
    assert to_x.tolist() == pytest.approx([0, 1, 0, 0])
    assert to_mixing.isnan().all()
    # Nor does one element spoil its neighbours.
    clean = ActivationMixture(qparams)(x[[1, 3]], mixing_of(count))
    assert output[[1, 3]].equal(clean)


@pytest.mark.parametrize(("bits", "count", "size"), [(4, 8, 1), (8, 8, 2)])
def test_little_is_kept_for_the_backward(bits, count, size):
    kept = []
    x = torch.randn(1000).requires_grad_()
    mixture = ActivationMixture(grids(bits, symmetric=False, count=count))
    mixture(x, mixing_of(count))
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        mixture(x, mixing_of(count).requires_grad_())
    assert sum(tensor.nbytes for tensor in kept) == 1000 * size + 4 * count
    kept.clear()
    mixture(x.detach(), mixing_of(count))
    assert not kept


@pytest.mark.parametrize("magnitude", [1e30, 1e3, 1e-3, 1e-30])
@pytest.mark.parametrize("symmetric", [True, False])
def test_the_mixture_holds_at_any_magnitude(magnitude, symmetric):
    generator = torch.Generator().manual_seed(0)
    ends = magnitude * (0.5 + torch.rand(3, 2, generator=generator))
    qparams = [qparams_from_range(-low[None], high[None], QuantSpec(4, symmetric)) for low, high in ends]
    x = torch.cat([torch.cat([boundaries_of(q) for q in qparams]), torch.linspace(-2, 2, 50) * magnitude])
    assert_equals_the_sum(qparams, x)


def test_the_mixture_holds_for_ranges_of_very_different_widths():
    spec = QuantSpec(8, symmetric=False)
    qparams = [qparams_from_range(torch.tensor([-1.0]) * w, torch.tensor([1.0]) * w, spec) for w in (1e-3, 1.0, 1e4)]
    for narrow in qparams[:2]:
        x = torch.cat([around_boundaries([narrow]), around_boundaries(qparams)])
        assert_equals_the_sum(qparams, x)


def test_the_mixture_takes_grids_of_different_kinds_and_bits_and_equal_ones():
    qparams = [*grids(2, True, 1), *grids(8, False, 1), *grids(8, False, 1), *grids(3, False, 2)]
    assert_equals_the_sum(qparams, around_boundaries(qparams))


def test_the_grid_of_an_input_that_was_always_zero_is_mixed_too():
    zero = torch.zeros(1)
    qparams = [qparams_from_range(zero, zero, QuantSpec(4, symmetric=False))] * 2
    assert_equals_the_sum(qparams, around_boundaries(qparams))


def test_infinite_inputs_are_clipped_like_large_ones():
    spec = QuantSpec(8, symmetric=False)
    qparams = [qparams_from_range(torch.tensor([-w]), torch.tensor([w]), spec) for w in (1e-3, 1.0, 1.0001)]
    mixture = ActivationMixture(qparams)
    x = torch.tensor([torch.inf, -torch.inf])
    assert mixture(x, mixing_of(3)).equal(mixture(torch.tensor([1e30, -1e30]), mixing_of(3)))


def test_the_gradient_to_mixing_stays_exact_over_many_elements():
    qparams = grids(2, symmetric=False, count=2)
    x = torch.full((300_000,), 0.3)
    _, _, to_mixing = outcome(ActivationMixture(qparams), x, mixing_of(2), torch.full_like(x, 0.1))
    expected = [0.1 * len(x) * fake_quantize(x[:1], q).item() for q in qparams]
    assert to_mixing.tolist() == pytest.approx(expected, rel=1e-5)


def test_only_the_gradients_asked_for_are_computed():
    mixture = ActivationMixture(grids(4, symmetric=False, count=2))
    x, mixing = torch.randn(5), mixing_of(2).requires_grad_()
    mixture(x, mixing).sum().backward()
    assert mixing.grad is not None
    x.requires_grad_()
    mixture(x, mixing.detach()).sum().backward()
    assert x.grad is not None
    assert not mixture(x.detach(), mixing.detach()).requires_grad


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("bits", [2, 5, 8])
def test_a_boundary_is_the_least_float_that_rounds_up(bits, symmetric):
    (qparams,) = grids(bits, symmetric, count=1)
    spec = qparams.spec
    boundaries = boundaries_of(qparams)
    assert len(boundaries) == 2**bits + 1
    # Between its first and last code, a boundary is where fake quantization changes.
    inner = boundaries[1:-1]
    codes = torch.arange(spec.quant_min + 1, spec.quant_max + 1)
    reached = (codes - qparams.zero_point) * qparams.scale
    assert torch.allclose(fake_quantize(inner, qparams), reached)
    below = inner.nextafter(torch.tensor(-torch.inf))
    assert torch.allclose(fake_quantize(below, qparams), reached - qparams.scale, atol=1e-6)


def test_no_grid_or_a_per_channel_one_is_refused():
    per_channel = qparams_from_range(-torch.ones(2), torch.ones(2), QuantSpec(4, symmetric=True, channel_axis=0))
    for qparams in ([], [*grids(4, True, 1), per_channel]):
        with pytest.raises(ValueError, match="qparams: one per-tensor grid or more are needed"):
            ActivationMixture(qparams)


def test_weights_are_mixed_by_a_plain_sum():
    candidates = torch.tensor([[[1.0, 2.0], [3.0, 4.0]], [[10.0, 20.0], [30.0, 40.0]]])
    assert mix_weights(candidates, torch.tensor([0.5, 0.25])).tolist() == [[3, 6], [9, 12]]


# Without a bias, which no candidate changes: it would be added once on one side, in shares on the other.
LAYERS = {
    "conv2d": (nn.Conv2d(4, 6, 3, bias=False), (2, 4, 7, 7)),
    "strided": (nn.Conv2d(4, 6, 3, stride=2, padding=1, bias=False), (2, 4, 7, 7)),
    "dilated": (nn.Conv2d(4, 6, 3, dilation=2, padding=2, bias=False), (2, 4, 7, 7)),
    "grouped": (nn.Conv2d(4, 6, 3, groups=2, bias=False), (2, 4, 7, 7)),
    "depthwise": (nn.Conv2d(4, 4, 3, groups=4, padding=1, padding_mode="reflect", bias=False), (2, 4, 7, 7)),
    "conv1d": (nn.Conv1d(4, 6, 3, stride=2, dilation=2, bias=False), (2, 4, 15)),
    "conv3d": (nn.Conv3d(2, 3, 2, bias=False), (2, 2, 4, 4, 4)),
    "transposed": (nn.ConvTranspose2d(4, 6, 3, stride=2, output_padding=1, groups=2, bias=False), (2, 4, 5, 5)),
    "linear": (nn.Linear(4, 6, bias=False), (2, 3, 4)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_the_composite_convolution_equals_the_sum_over_all_pairs(name):
    layer, shape = LAYERS[name]
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(shape, generator=generator).requires_grad_()
    weight = layer.weight.detach().copy_(torch.randn(layer.weight.shape, generator=generator))
    weights = torch.stack([fake_quantize(weight, q) for q in grids(4, symmetric=True, count=3)])
    qparams = grids(4, symmetric=False, count=4)
    p, q = mixing_of(3, seed=1).requires_grad_(), mixing_of(4, seed=2).requires_grad_()

    composite = functional_call(layer, {"weight": mix_weights(weights, p)}, (ActivationMixture(qparams)(x, q),))
    double_sum = sum(
        p[i] * q[j] * functional_call(layer, {"weight": weights[i]}, (fake_quantize(x, qparams[j]),))
        for i in range(3)
        for j in range(4)
    )

    scale = double_sum.abs().max().item()
    assert torch.allclose(composite, double_sum, rtol=1e-5, atol=1e-5 * scale)
    upstream = torch.randn(composite.shape, generator=generator)
    for ours, naive in zip(
        torch.autograd.grad(composite, (x, p, q), upstream),
        torch.autograd.grad(double_sum, (x, p, q), upstream),
        strict=True,
    ):
        assert (ours - naive).norm() <= 1e-5 * naive.norm()
