import math
from functools import cache
from statistics import NormalDist

import numpy as np
import pytest
import torch

from dqss.quantizers.aciq import Aciq, optimal_clipping
from dqss.spec import QuantSpec

# For 2 to 8 bits, from the comments of the authors' published code.
PUBLISHED = {
    "gauss": [1.71063519, 2.15159277, 2.55913646, 2.93620062, 3.28691474, 3.6151146, 3.92403714],
    "laplace": [2.83068299, 3.89722946, 5.02864014, 6.20476633, 7.41312622, 8.64561995, 9.89675982],
}
SHARES = (np.arange(20_000) + 0.5) / 20_000


@cache
def curve(distribution: str) -> np.ndarray:
    """The quantiles of a curve with mean 0 and spread 1."""
    if distribution == "gauss":
        return np.array([NormalDist().inv_cdf(share) for share in SHARES])
    return np.where(SHARES < 0.5, np.log(2 * SHARES), -np.log(2 - 2 * SHARES))


@pytest.mark.parametrize("distribution", PUBLISHED)
@pytest.mark.parametrize("bits", range(2, 9))
def test_the_factor_is_that_of_the_authors(distribution, bits):
    assert optimal_clipping(distribution, bits) == pytest.approx(PUBLISHED[distribution][bits - 2], rel=1e-5)


@pytest.mark.parametrize("distribution", PUBLISHED)
@pytest.mark.parametrize("bits", [2, 4, 6])
def test_the_factor_costs_least_on_the_curve_itself(distribution, bits):
    # The paper's own sum: what is cut off, and the rounding error of 2^M evenly spaced cells.
    x = np.abs(curve(distribution))

    def cost(alpha: float) -> float:
        return np.mean(np.maximum(x - alpha, 0) ** 2) + alpha**2 / (3 * 4**bits)

    alpha = optimal_clipping(distribution, bits)
    assert cost(alpha) < min(cost(0.95 * alpha), cost(1.05 * alpha))


@pytest.mark.parametrize("distribution", PUBLISHED)
@pytest.mark.parametrize("symmetric", [True, False])
def test_a_centred_tensor_is_clipped_at_the_factor_times_its_spread(summarise, distribution, symmetric):
    x = torch.tensor(5 * curve(distribution), dtype=torch.float32)
    low, high = Aciq(distribution).range(summarise(x), QuantSpec(3, symmetric))
    expected = 5 * PUBLISHED[distribution][1]
    assert (low.item(), high.item()) == (pytest.approx(-expected, rel=2e-3), pytest.approx(expected, rel=2e-3))


@pytest.mark.parametrize("distribution", PUBLISHED)
def test_an_affine_range_lies_about_the_mean(summarise, distribution):
    x = torch.tensor(curve(distribution) + 2, dtype=torch.float32)
    low, high = Aciq(distribution).range(summarise(x), QuantSpec(3, symmetric=False))
    expected = PUBLISHED[distribution][1]
    assert (low.item(), high.item()) == (pytest.approx(2 - expected, rel=5e-3), pytest.approx(2 + expected, rel=5e-3))


@pytest.mark.parametrize("distribution", PUBLISHED)
@pytest.mark.parametrize("sign", [1, -1])
def test_one_sign_is_half_of_a_curve_with_one_bit_more(summarise, distribution, sign):
    # Half of the values are zeros, as behind a ReLU; the others in the first bin are left out with them.
    x = torch.tensor(sign * curve(distribution).clip(0), dtype=torch.float32)
    # A symmetric grid has no level to spare for it.
    for symmetric, more in ((False, 1), (True, 0)):
        low, high = Aciq(distribution).range(summarise(x), QuantSpec(3, symmetric))
        zero, end = (low, high) if sign > 0 else (high, low)
        assert zero.item() == 0
        assert end.item() == pytest.approx(sign * PUBLISHED[distribution][1 + more], rel=1e-2)


def test_the_spread_by_hand(summarise):
    # The mean absolute deviation of -1, 1 (4000 of each) and -10, 10 (one of each) is 8020 / 8002, alpha 2.83 of it.
    x = torch.tensor([-1.0, 1.0] * 4000 + [-10.0, 10.0])
    low, high = Aciq("laplace").range(summarise(x), QuantSpec(2, symmetric=True))
    assert high.item() == pytest.approx(2.83068 * 8020 / 8002, rel=4e-3)
    _, high = Aciq("gauss").range(summarise(x), QuantSpec(2, symmetric=True))
    assert high.item() == pytest.approx(1.71064 * math.sqrt(8200 / 8002), rel=4e-3)
    assert low.item() < 0


def test_each_channel_has_its_own_range(summarise):
    rows = [torch.tensor(curve("gauss")[::10], dtype=torch.float32) * 10.0**i for i in range(3)]
    x = torch.stack([*rows, rows[0].clamp(min=0), torch.zeros(2000)])
    for distribution in PUBLISHED:
        low, high = Aciq(distribution).range(summarise(x, axis=0), QuantSpec(4, symmetric=False, channel_axis=0))
        for channel, row in enumerate(x):
            alone = Aciq(distribution).range(summarise(row), QuantSpec(4, symmetric=False))
            assert (low[channel], high[channel]) == (alone[0][0], alone[1][0])


def test_another_distribution_is_refused():
    with pytest.raises(ValueError, match=r"distribution: 'cauchy' is not allowed\. Give 'gauss' or 'laplace'\."):
        Aciq("cauchy")
