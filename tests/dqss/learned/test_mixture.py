import pytest
import torch
from torch import Tensor

from dqss.calibrate import TensorSummary
from dqss.learned import LEARNED
from dqss.learned.base import LearnedQuantizer
from dqss.learned.mixture import LEAST_POINTS, mixture, sum_of
from dqss.spec import QuantSpec

NAMES = [name for name in LEARNED if LEARNED.load(name).activation_from is None]


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


X = random(8, 16, 28, 28)
INPUTS = {"rectified": X.relu(), "signed": X, "outlier": torch.where(X.max() == X, 30 * X, X)}


def candidates(x: Tensor, bits: int, names: list[str] = NAMES) -> list[LearnedQuantizer]:
    """Return the quantizers, each with a grid of its own, as after some training."""
    summary = TensorSummary(None)
    summary.update(x)
    made = [LEARNED.create(name).for_activation(summary, QuantSpec(bits, symmetric=False)) for name in names]
    with torch.no_grad():
        for position, quantizer in enumerate(made):
            for parameter in quantizer.parameters():
                parameter.mul_(1 + 0.03 * position)
    return made


def outcome(mix, x: Tensor, bits: int, names: list[str], gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the output, and the gradients to x, to the mixing weights and to all parameters in a row."""
    quantizers = candidates(x, bits, names)
    x = x.clone(memory_format=torch.preserve_format).requires_grad_()
    mixing = torch.linspace(1, 2, len(names)).requires_grad_()
    result = mix(x, quantizers, mixing)
    result.backward(gradient)
    learned = [p.grad.flatten() for quantizer in quantizers for p in quantizer.parameters() if p.grad is not None]
    return result.detach(), x.grad, mixing.grad, torch.cat([torch.zeros(0), *learned])


def apart(found: Tensor, expected: Tensor) -> float:
    """Return the relative distance."""
    return ((found - expected).norm() / expected.norm()).item()


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("kind", INPUTS)
def test_it_is_the_sum_but_for_inputs_next_to_a_boundary(kind, bits):
    x = INPUTS[kind]
    # Gradients that depend on the value, as in training: sums that do not cancel out.
    gradient = x + 0.3 * random(*x.shape, seed=1)
    found, expected = (outcome(mix, x, bits, NAMES, gradient) for mix in (mixture, sum_of))
    # Points are as far apart as the range says, which one outlier may widen.
    tolerance = 0.15 if kind == "outlier" else 0.05
    for ours, theirs in zip(found, expected, strict=True):
        assert apart(ours, theirs) < tolerance


@pytest.mark.parametrize("name", NAMES)
def test_each_algorithm_gets_its_own_gradients(name):
    x = INPUTS["signed"]
    gradient = x + 0.3 * random(*x.shape, seed=1)
    # Twice the same algorithm, for there is a mixture of several only.
    found, expected = (outcome(mix, x, 3, [name, name], gradient) for mix in (mixture, sum_of))
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.shape == theirs.shape
        assert len(theirs) == 0 or apart(ours, theirs) < 0.05


def test_the_gradient_of_ewgs_knows_the_sign_of_what_comes_in():
    x = torch.full((1, 8 * LEAST_POINTS), 0.3)
    x[0, 0], x[0, 1] = -1, 2
    gradient = torch.where(torch.arange(x.numel()) % 2 == 0, 1.0, -1.0).view_as(x)
    found, expected = (outcome(mix, x, 2, ["ewgs", "ewgs"], gradient)[1][0, 2:4] for mix in (mixture, sum_of))
    assert expected[0] != -expected[1]
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=0)


def test_few_values_take_the_sum_itself():
    x, mixing = random(4, 5), torch.full((len(NAMES),), 1 / len(NAMES))
    assert mixture(x, candidates(x, 3), mixing).equal(sum_of(x, candidates(x, 3), mixing))


def test_extremes_are_observed_as_by_the_sum():
    x = INPUTS["signed"]
    for mix in (mixture, sum_of):
        quantizers = candidates(x, 3, ["ste-minmax", "lsq"])
        mix(3 * x, quantizers, torch.tensor([0.5, 0.5]))
        torch.testing.assert_close(quantizers[0].high, x.max()[None] * (1 + 2 * quantizers[0].averaging))


def test_memory_layout_and_type_stay():
    x = INPUTS["rectified"].to(memory_format=torch.channels_last).to(torch.bfloat16)
    quantizers = candidates(X, 4)
    result = mixture(x, quantizers, torch.full((len(NAMES),), 1 / len(NAMES)))
    assert result.dtype == torch.bfloat16
    assert result.is_contiguous(memory_format=torch.channels_last)
    plain = mixture(x.contiguous(), candidates(X, 4), torch.full((len(NAMES),), 1 / len(NAMES)))
    assert plain.equal(result)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_stays_where_it_was(value):
    x = INPUTS["rectified"].clone()
    x[0, 0, 0, 0] = value
    quantizers = candidates(X, 3, ["lsq", "pact"])
    mixing = torch.tensor([0.5, 0.5])
    torch.testing.assert_close(mixture(x, quantizers, mixing), sum_of(x, quantizers, mixing), equal_nan=True)


def test_constant_inputs_and_switched_off_gradients():
    x, mixing = torch.full((8, 16, 28, 28), 0.7), torch.tensor([0.5, 0.5])
    quantizers = candidates(X, 3, ["lsq", "dsq"])
    with torch.no_grad():
        torch.testing.assert_close(mixture(x, quantizers, mixing), sum_of(x, quantizers, mixing))
