import numpy as np
import pytest
import torch

from dqss.learned.sawb import COEFFICIENTS, Sawb, statistical_clip
from dqss.spec import QuantSpec

# Of the paper's levels: `sawb_params` in fms_mo/quant/quantizers.py of the FMS Model Optimizer of IBM, the authors'.
PUBLISHED = {2: (3.12, -2.064), 3: (7.509, -6.892), 4: (12.68, -12.80)}

X = np.linspace(-14, 14, 28001)
DENSITIES = {
    "gauss": np.exp(-(X**2) / 2),
    "uniform": (abs(X) <= 1).astype(float),
    "laplace": np.exp(-abs(X)),
    "logistic": 1 / np.cosh(X / 2) ** 2,
    "triangle": np.clip(1 - abs(X), 0, None),
    "von Mises": np.where(abs(X) <= np.pi, np.exp(np.cos(X)), 0),
}


def levels_with_zero(alpha: float, bits: int) -> np.ndarray:
    step = 2 * alpha / (2**bits - 1)
    return np.clip(np.rint(X / step), -(2 ** (bits - 1)), 2 ** (bits - 1) - 1) * step


def levels_of_the_paper(alpha: float, bits: int) -> np.ndarray:
    steps = 2**bits - 1
    return (np.clip(np.rint((X / alpha + 1) / 2 * steps), 0, steps) / steps * 2 - 1) * alpha


def fitted(bits: int, levels) -> tuple[float, float]:
    """Fit a line through each distribution's best alpha: alpha / E|w| over sqrt(E[w^2]) / E|w|."""
    ratios, bests = [], []
    for density in DENSITIES.values():
        weight = density / density.sum()
        mean, root = (abs(X) * weight).sum(), np.sqrt((X**2 * weight).sum())
        tried = root * np.linspace(0.5, 8, 751)
        errors = [((levels(alpha, bits) - X) ** 2 * weight).sum() for alpha in tried]
        ratios.append(root / mean)
        bests.append(tried[int(np.argmin(errors))] / mean)
    slope, intercept = np.polyfit(ratios, bests, 1)
    return slope, intercept


def alphas(coefficients: tuple[float, float]) -> np.ndarray:
    """What a pair makes of the six distributions, in units of E|w|; pairs far apart may say nearly the same."""
    return np.polyval(coefficients, [1.155, 1.225, 1.253, 1.267, 1.308, 1.414])


@pytest.mark.parametrize("bits", PUBLISHED)
def test_the_fit_on_the_papers_levels_gives_the_published_coefficients(bits):
    assert alphas(fitted(bits, levels_of_the_paper)) == pytest.approx(alphas(PUBLISHED[bits]), rel=0.06)


@pytest.mark.parametrize("bits", [2, 3, 4, 6, 8])
def test_the_coefficients_are_the_fit_on_the_protocols_levels(bits):
    assert alphas(COEFFICIENTS[bits]) == pytest.approx(alphas(fitted(bits, levels_with_zero)), rel=0.02)


def test_weights_are_clipped_by_their_statistics(summarise):
    # E|w| = 2 and sqrt(E[w^2]) = sqrt(5).
    weight = torch.tensor([1.0, -1.0, 3.0, -3.0])
    alpha = 3.61 * 5**0.5 - 2.55 * 2
    assert statistical_clip(weight[None], 2).item() == pytest.approx(alpha)
    quantizer = Sawb().for_weight(weight, summarise(weight), QuantSpec(2, symmetric=True))
    step = 2 * alpha / 3
    assert quantizer(weight).tolist() == pytest.approx([step, -step, step, -2 * step])


def test_the_clip_follows_the_weights_and_gradients_pass_through_it(summarise):
    weight = torch.tensor([1.0, -1.0, 3.0, -3.0], requires_grad=True)
    quantizer = Sawb().for_weight(weight, summarise(weight), QuantSpec(2, symmetric=True))
    first = quantizer.qparams().scale.clone()
    quantizer(10 * weight).sum().backward()
    torch.testing.assert_close(quantizer.qparams().scale, 10 * first)
    assert weight.grad.tolist() == [10, 10, 10, 10]


def test_weights_of_one_magnitude_are_not_clipped_below_it():
    # The line gives 11.99 - 11.97 times their magnitude.
    assert statistical_clip(torch.tensor([[2.0, -2.0]]), 4).tolist() == [2]


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_a_bell_curves_clip_is_near_the_best(bits):
    weight = torch.randn(20000, generator=torch.Generator().manual_seed(0))
    alpha = statistical_clip(weight[None], bits).item()

    def error(alpha):
        step = 2 * alpha / (2**bits - 1)
        codes = (weight / step).round().clamp(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
        return (codes * step - weight).square().mean().item()

    assert error(alpha) <= 1.05 * min(error(k / 20) for k in range(10, 120))
