import numpy as np
import pytest
import torch

from dqss.quantizers.lp import Lp
from dqss.quantizers.mse import Mse
from dqss.spec import QuantSpec


def naive_error(x: np.ndarray, low: float, high: float, spec: QuantSpec, p: float) -> float:
    """The sum of |error|^p on the raw values, written out."""
    levels = 2**spec.bits - 1
    scale = 2 * max(-low, high) / levels if spec.symmetric else (max(high, 0) - min(low, 0)) / levels
    zero = 0 if spec.symmetric else np.rint(-min(low, 0) / scale)
    codes = np.clip(np.rint(x / scale) + zero, spec.quant_min, spec.quant_max)
    return float((np.abs((codes - zero) * scale - x) ** p).sum())


def samples(kind: str) -> torch.Tensor:
    generator = np.random.default_rng(1)
    drawn = {
        "normal": generator.normal(size=2000),
        "rectified": generator.normal(size=2000).clip(0),
        "long-tailed": generator.standard_t(2, size=2000),
    }
    return torch.tensor(drawn[kind], dtype=torch.float32)


@pytest.mark.parametrize(("p", "high"), [(2.0, 3.0), (4.0, 6.0)])
def test_a_higher_exponent_minds_an_outlier_more(summarise, p, high):
    # Two candidates. Levels 0 1 2 3: the 6 is off by 3, at a cost of 3^p. Levels 0 2 4 6: the thirty are off by 1 each.
    x = torch.tensor([1.0] * 30 + [6.0])
    found = Lp(p=p, candidates=2).range(summarise(x), QuantSpec(2, symmetric=False))
    assert found[1].item() == high


@pytest.mark.parametrize("kind", ["normal", "rectified", "long-tailed"])
@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("p", [1.0, 2.4, 4.0])
def test_the_error_is_the_least_of_all_shrunken_ranges(summarise, kind, bits, symmetric, p):
    x = samples(kind)
    spec = QuantSpec(bits, symmetric)
    low, high = Lp(p).range(summarise(x), spec)
    raw = x.double().numpy()
    least = min(naive_error(raw, raw.min() * k / 100, raw.max() * k / 100, spec, p) for k in range(1, 101))
    # At 8 bits a step is only 16 bins wide (TensorSummary), so that neighbouring ranges are hard to tell apart.
    assert naive_error(raw, low.item(), high.item(), spec, p) <= least * (1.005 if bits < 8 else 1.03)


@pytest.mark.parametrize("axis", [None, 1])
def test_with_the_exponent_2_it_is_the_range_of_mse(summarise, axis):
    x = torch.stack([samples("normal"), samples("long-tailed"), torch.zeros(2000), 1e3 * samples("rectified")], dim=1)
    summary, spec = summarise(x, axis=axis), QuantSpec(3, symmetric=False, channel_axis=axis)
    assert torch.allclose(Lp(2.0).range(summary, spec)[1], Mse().range(summary, spec)[1], rtol=0.02)


@pytest.mark.parametrize("p", [0, -1.0, float("nan")])
def test_an_exponent_that_is_not_positive_is_refused(p):
    with pytest.raises(ValueError, match=f"p: {p} is not allowed. Give a number above 0"):
        Lp(p)


def test_fewer_than_one_candidate_is_refused():
    with pytest.raises(ValueError, match=r"candidates: 0 is not allowed\. Give at least 1"):
        Lp(candidates=0)
