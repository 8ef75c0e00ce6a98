import numpy as np
import pytest
import torch

from dqss.quantizers.easyquant import EasyQuant
from dqss.spec import QuantSpec


def naive_cosine(x: np.ndarray, low: float, high: float, spec: QuantSpec) -> float:
    """Of the raw values and their quantization, written out."""
    levels = 2**spec.bits - 1
    scale = 2 * max(-low, high) / levels if spec.symmetric else (max(high, 0) - min(low, 0)) / levels
    zero = 0 if spec.symmetric else np.rint(-min(low, 0) / scale)
    q = (np.clip(np.rint(x / scale) + zero, spec.quant_min, spec.quant_max) - zero) * scale
    return float(x @ q / np.sqrt(x @ x * (q @ q))) if q.any() else 0.0


@pytest.mark.parametrize(("count", "high"), [(30, 3.0), (1, 6.0)])
def test_the_greater_cosine_of_two_by_hand(summarise, count, high):
    # Levels 0 2 4 6: the 0.9 fall to 0, (x . q) / |q| = 6. Levels 0 1 2 3: (0.9 n + 18) / sqrt(n + 9), which is 7.2 for
    # thirty of them and 5.98 for one.
    x = torch.tensor([0.9] * count + [6.0])
    found = EasyQuant(candidates=2).range(summarise(x), QuantSpec(2, symmetric=False))
    assert found[1].item() == high


@pytest.mark.parametrize("kind", ["normal", "rectified", "long-tailed"])
@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("symmetric", [True, False])
def test_the_cosine_is_the_greatest_of_all_shrunken_ranges(summarise, kind, bits, symmetric):
    generator = np.random.default_rng(1)
    raw = generator.standard_t(2, size=2000) if kind == "long-tailed" else generator.normal(size=2000)
    x = torch.tensor(raw.clip(0) if kind == "rectified" else raw, dtype=torch.float32)
    spec, raw = QuantSpec(bits, symmetric), x.double().numpy()
    low, high = EasyQuant().range(summarise(x), spec)
    greatest = max(naive_cosine(raw, raw.min() * k / 100, raw.max() * k / 100, spec) for k in range(1, 101))
    found = naive_cosine(raw, low.item(), high.item(), spec)
    # At 8 bits a step is only 16 bins wide (TensorSummary), so that neighbouring ranges are hard to tell apart.
    assert 1 - found <= (1 - greatest) * (1.005 if bits < 8 else 1.03)


def test_a_tie_goes_to_the_wider_range(summarise):
    # All values alike point in one direction, however they are scaled.
    low, high = EasyQuant().range(summarise(torch.full((7,), 5.0)), QuantSpec(4, symmetric=False))
    assert (low.item(), high.item()) == (5, 5)


def test_fewer_than_one_candidate_is_refused():
    with pytest.raises(ValueError, match=r"candidates: 0 is not allowed\. Give at least 1"):
        EasyQuant(candidates=0)
