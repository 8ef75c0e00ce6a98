import numpy as np
import pytest
import torch

from dqss.quantizers.mse import Mse
from dqss.spec import QuantSpec


def naive_error(x: np.ndarray, low: float, high: float, spec: QuantSpec) -> float:
    """The sum of squared errors on the raw values, written out."""
    levels = 2**spec.bits - 1
    if spec.symmetric:
        scale, zero = 2 * max(-low, high) / levels, 0
    else:
        scale = (max(high, 0) - min(low, 0)) / levels
        zero = np.rint(-min(low, 0) / scale)
    codes = np.clip(np.rint(x / scale) + zero, spec.quant_min, spec.quant_max)
    return float((((codes - zero) * scale - x) ** 2).sum())


def samples(kind: str) -> torch.Tensor:
    generator = np.random.default_rng(1)
    drawn = {
        "normal": generator.normal(size=2000),
        "rectified": generator.normal(size=2000).clip(0),
        "long-tailed": generator.standard_t(2, size=2000),
        "shifted": generator.normal(2, 1, size=2000),
    }
    return torch.tensor(drawn[kind], dtype=torch.float32)


def test_an_outlier_is_clipped_where_the_others_then_fall_on_the_grid(summarise):
    # Levels 0, 1, 2, 3 cost 1, for the outlier; any other range costs more for the rest.
    x = torch.tensor([1.0, 2.0, 3.0] * 300 + [4.0])
    low, high = Mse().range(summarise(x), QuantSpec(2, symmetric=False))
    assert (low.tolist(), high.tolist()) == ([0.75], [3])


def test_nothing_is_clipped_where_the_whole_range_is_exact(summarise):
    x = torch.tensor([-2.0, -1.0, 0.0, 1.0] * 100 + [1.5])
    low, high = Mse().range(summarise(x), QuantSpec(2, symmetric=True))
    # The scale of 2 * 2 / 3 is too wide: at three quarters of the range it is 1.
    assert (low.tolist(), high.tolist()) == ([-1.5], [1.125])


@pytest.mark.parametrize("kind", ["normal", "rectified", "long-tailed", "shifted"])
@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("symmetric", [True, False])
def test_the_error_is_the_least_of_all_shrunken_ranges(summarise, kind, bits, symmetric):
    x = samples(kind)
    spec = QuantSpec(bits, symmetric)
    low, high = Mse().range(summarise(x), spec)
    raw = x.double().numpy()
    least = min(naive_error(raw, raw.min() * k / 100, raw.max() * k / 100, spec) for k in range(1, 101))
    # At 8 bits a step is only 16 bins wide (TensorSummary), so that neighbouring ranges are hard to tell apart.
    assert naive_error(raw, low.item(), high.item(), spec) <= least * (1.002 if bits < 8 else 1.02)


@pytest.mark.parametrize("symmetric", [True, False])
def test_each_channel_is_shrunk_by_itself(summarise, symmetric):
    x = torch.stack([samples("normal"), samples("long-tailed"), torch.zeros(2000), 1e3 * samples("rectified")], dim=1)
    low, high = Mse().range(summarise(x, axis=1), QuantSpec(4, symmetric, channel_axis=1))
    for channel in range(4):
        alone_low, alone_high = Mse().range(summarise(x[:, channel]), QuantSpec(4, symmetric))
        assert (low[channel], high[channel]) == (alone_low[0], alone_high[0])


def test_a_tie_goes_to_the_wider_range(summarise):
    low, high = Mse().range(summarise(torch.zeros(10)), QuantSpec(4, symmetric=False))
    assert (low.tolist(), high.tolist()) == ([0], [0])
    x = torch.tensor([0.0, 0.0, 8.0])
    # One candidate is the whole range, so that it is taken whatever it costs.
    low, high = Mse(candidates=1).range(summarise(x), QuantSpec(4, symmetric=False))
    assert (low.tolist(), high.tolist()) == ([0], [8])


def test_fewer_than_one_candidate_is_refused():
    with pytest.raises(ValueError, match=r"candidates: 0 is not allowed\. Give at least 1"):
        Mse(candidates=0)
