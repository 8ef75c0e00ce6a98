import pytest
import torch

from dqss.quantizers.shrink import products
from dqss.spec import QuantSpec


def test_products_by_hand(summarise):
    # Bins are 1 / 2048 wide, values in their middles but for the limit, -1.
    half = 1 / 4096
    summary = summarise(torch.tensor([-1.0, -0.25 - half, 0.125 + half, 0.5 + half]))
    # Levels -1, -0.5, 0, 0.5: at -0.25 and 0.25 the next one begins.
    product, energy = products(summary, torch.tensor([[0.5]]).double(), torch.tensor([0]), QuantSpec(2, symmetric=True))
    assert product.item() == pytest.approx((1 - half) + 0.5 * (0.25 + half) + 0.5 * (0.5 + half), rel=1e-12)
    assert energy.item() == pytest.approx(1 + 0.25 + 0.25, rel=1e-12)


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("symmetric", [True, False])
def test_products_are_the_sums_over_levels(summarise, bits, symmetric):
    x = torch.randn(3, 2000, generator=torch.Generator().manual_seed(bits)) * torch.tensor([[1.0], [30.0], [1e-3]])
    summary = summarise(x, axis=0)
    spec = QuantSpec(bits, symmetric, channel_axis=0)
    # From grids that clip nearly all to grids wider than the limit.
    scale = torch.linspace(0.01, 1.5, 7, dtype=torch.float64).expand(3, 7) * 2 / 2**bits
    zero_point = torch.full((3,), 0 if symmetric else 2 ** (bits - 1) - 1)
    product, energy = products(summary, scale, zero_point, spec)
    levels, (count, total, _) = summary.per_level(scale, zero_point, spec)
    assert torch.allclose(product, (levels * total).sum(2), rtol=1e-11, atol=1e-11)
    assert torch.allclose(energy, (levels**2 * count).sum(2), rtol=1e-11, atol=1e-11)
