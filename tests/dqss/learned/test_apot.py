import pytest
import torch

from dqss.learned.apot import Apot, NormalisedPowersOfTwo, PowersOfTwo, levels_of, nearest
from dqss.spec import QuantSpec

SIGNED, UNSIGNED = QuantSpec(3, symmetric=True), QuantSpec(2, symmetric=False)


def test_levels_are_sums_of_one_power_per_term():
    # Four bits, the paper's example halved: {0, 1/2, 1/8, 1/32} + {0, 1/4, 1/16, 1/64}, the largest being 3/4.
    sums = sorted({a + b for a in (0, 1 / 2, 1 / 8, 1 / 32) for b in (0, 1 / 4, 1 / 16, 1 / 64)})
    assert levels_of(4, signed=False).tolist() == pytest.approx([level / 0.75 for level in sums])
    # Three bits: {0, 1/2, 1/4, 1/16} + {0, 1/8}.
    sums = sorted({a + b for a in (0, 1 / 2, 1 / 4, 1 / 16) for b in (0, 1 / 8)})
    assert levels_of(3, signed=False).tolist() == pytest.approx([level / 0.625 for level in sums])


@pytest.mark.parametrize("bits", range(2, 9))
def test_there_are_as_many_levels_as_the_bits_give_and_they_are_denser_near_zero(bits):
    unsigned, signed = levels_of(bits, signed=False), levels_of(bits, signed=True)
    assert len(unsigned) == 2**bits
    # A sign costs the second zero.
    assert len(signed) == 2**bits - 1
    assert signed.equal(-signed.flip(0))
    assert unsigned[1] < 1 / (2**bits - 1) or bits == 2
    assert (unsigned[0], unsigned[-1]) == (0, 1)


def test_values_go_to_the_nearest_level():
    levels = levels_of(2, signed=False)
    x = torch.linspace(0, 1, 997)
    expected = levels[(x[:, None] - levels).abs().argmin(1)]
    assert nearest(x, levels).equal(expected)


def test_values_and_gradients_are_those_of_the_reparametrised_clip():
    # Levels 0, 1, 2 and 4. Within, alpha gets level - x / alpha; beyond, 1.
    quantizer = PowersOfTwo(torch.tensor([4.0]), False, UNSIGNED)
    for value, level, to_alpha, to_x in [(-1, 0, 0, 0), (1.2, 1, 0.25 - 0.3, 1), (3.4, 4, 1 - 0.85, 1), (9, 4, 1, 0)]:
        x = torch.tensor([float(value)], requires_grad=True)
        quantizer.zero_grad()
        result = quantizer(x)
        assert result.item() == level
        result.backward()
        assert quantizer.alpha.grad.item() == pytest.approx(to_alpha, abs=1e-6)
        assert x.grad.item() == to_x


def test_a_clip_below_zero_pulls_the_other_way():
    quantizer = PowersOfTwo(torch.tensor([4.0]), True, SIGNED)
    quantizer(torch.tensor([-9.0])).backward()
    assert quantizer.alpha.grad.item() == -1


def test_weights_are_clipped_in_units_of_their_deviation():
    # Deviation 2, so that alpha = 2 clips at 4: levels -4, -2, -1, 0, 1, 2, 4.
    weight = torch.tensor([-2.0, 2.0, -2.0, 2.0])
    quantizer = NormalisedPowersOfTwo(torch.tensor([2.0]), True, SIGNED)
    assert quantizer(weight).tolist() == [-2, 2, -2, 2]
    torch.testing.assert_close(quantizer(5 * weight), 5 * quantizer(weight))


def test_the_first_clip_has_the_least_squared_error(summarise):
    x = torch.randn(3000, generator=torch.Generator().manual_seed(0))
    quantizer = Apot().for_weight(x, summarise(x), SIGNED)
    least = quantizer.alpha.item()

    def error(alpha):
        levels = levels_of(3, signed=True)
        return ((levels[(x[:, None] / (alpha * x.std()) - levels).abs().argmin(1)] * alpha * x.std() - x) ** 2).mean()

    assert error(least) <= 1.01 * min(error(k / 20) for k in range(10, 80))


def test_no_candidates_are_refused():
    with pytest.raises(ValueError, match=r"candidates: 0 is not allowed\. Give at least 1"):
        Apot(candidates=0)
