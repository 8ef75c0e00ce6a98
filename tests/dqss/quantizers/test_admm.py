import pytest
import torch

from dqss.functional import fake_quantize
from dqss.quantizers.admm import Admm
from dqss.quantizers.minmax import MinMax
from dqss.spec import QuantSpec


def test_scale_and_codes_by_turns_by_hand(summarise):
    # The whole range has the scale 1.6 and the codes 1, 2, 3; their scale, (100 + 600 + 14.4) / (100 + 400 + 9), gives
    # the same codes again.
    x = torch.tensor([1.0] * 100 + [3.0] * 100 + [4.8])
    low, high = Admm().range(summarise(x), QuantSpec(2, symmetric=False))
    assert high.item() == pytest.approx(3 * 714.4 / 509, rel=4 / 4096)
    assert low.item() == pytest.approx(high.item() / 4.8)


def test_the_range_is_not_widened(summarise):
    # Codes 1, 1, 3: the least-squares scale, 312.6 / 209, is above that of the whole range, 1.4.
    x = torch.tensor([1.0] * 100 + [2.0] * 100 + [4.2])
    low, high = Admm().range(summarise(x), QuantSpec(2, symmetric=False))
    assert (low.item(), high.item()) == (1, pytest.approx(4.2))


@pytest.mark.parametrize("bits", [2, 3, 4, 6])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("one_sided", [True, False])
def test_the_scale_is_the_least_squares_answer_to_its_own_codes(summarise, bits, symmetric, one_sided):
    x = torch.randn(20_000, generator=torch.Generator().manual_seed(bits))
    x = x.clamp(min=0) if one_sided else x
    spec, summary = QuantSpec(bits, symmetric), summarise(x)
    qparams = Admm(turns=500).qparams(summary, spec)
    q = fake_quantize(x, qparams).double()
    assert ((x * q).sum() / (q * q).sum()).item() == pytest.approx(1, abs=3e-3)
    whole = fake_quantize(x, MinMax().qparams(summary, spec))
    assert (x - q).square().sum() < (x - whole).square().sum()


def test_fewer_than_one_turn_is_refused():
    with pytest.raises(ValueError, match=r"turns: 0 is not allowed\. Give at least 1"):
        Admm(turns=0)
