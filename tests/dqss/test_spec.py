import pytest

from dqss.spec import PROTOCOLS, Bits, Protocol, QuantSpec, Scheme


@pytest.mark.parametrize("weight", range(2, 9))
@pytest.mark.parametrize("activation", [2, 8])
def test_bits_read_what_they_write(weight, activation):
    assert Bits.parse(str(Bits(weight, activation))) == Bits(weight, activation)


@pytest.mark.parametrize("text", ["W4B8", "W1A8", "W4A9", "w4a8", "W4A8 ", "W44A8", "W4", "", "W4A8W4A8", "W٤A8"])
def test_bits_refuse_other_forms_and_say_which_is_right(text):
    with pytest.raises(ValueError, match=r"is not a bit-width\. Write W<2-8>A<2-8>, for example W4A8"):
        Bits.parse(text)


@pytest.mark.parametrize(
    ("bits", "symmetric", "ends"),
    [(2, True, (-2, 1)), (4, True, (-8, 7)), (8, True, (-128, 127)), (2, False, (0, 3)), (8, False, (0, 255))],
)
def test_a_grid_is_signed_where_symmetric_and_unsigned_where_affine(bits, symmetric, ends):
    spec = QuantSpec(bits, symmetric)
    assert (spec.quant_min, spec.quant_max) == ends


@pytest.mark.parametrize("bits", [1, 9, 0, -4])
def test_a_grid_refuses_bits_out_of_range(bits):
    with pytest.raises(ValueError, match=f"bits: {bits} is not allowed. Give 2 to 8"):
        QuantSpec(bits, symmetric=True)


@pytest.mark.parametrize("bits", [1, 9])
def test_a_protocol_refuses_first_and_last_bits_out_of_range(bits):
    with pytest.raises(ValueError, match=f"first_last_bits: {bits} is not allowed"):
        Protocol(first_last_bits=bits)


def test_a_protocol_refuses_per_channel_activations():
    with pytest.raises(ValueError, match=r"activation granularity: 'per-channel' is not allowed\. Give 'per-tensor'"):
        Protocol(activation=Scheme(symmetric=False, granularity="per-channel"))


def test_a_scheme_refuses_an_unknown_granularity_and_a_symmetry_that_is_no_truth_value():
    with pytest.raises(ValueError, match=r"granularity: 'per-row' is not allowed\. Give 'per-tensor' or 'per-channel'"):
        Scheme(symmetric=True, granularity="per-row")
    with pytest.raises(ValueError, match="symmetric: 'no' is not allowed"):
        Scheme(symmetric="no", granularity="per-tensor")


def test_the_shipped_protocols_are_those_of_the_documentation():
    weight = Scheme(symmetric=True, granularity="per-tensor")
    activation = Scheme(symmetric=False, granularity="per-tensor")
    assert set(PROTOCOLS) == {"all-layers", "academic", "super-resolution", "per-channel"}
    assert PROTOCOLS["all-layers"] == Protocol(None, weight, activation)
    assert PROTOCOLS["academic"] == Protocol(8, weight, activation)
    assert PROTOCOLS["super-resolution"] == Protocol(8, weight, activation, "enlarging")
    assert PROTOCOLS["per-channel"] == Protocol(None, Scheme(symmetric=True, granularity="per-channel"), activation)


def test_a_tail_that_is_unknown_or_says_nothing_is_refused():
    with pytest.raises(ValueError, match=r"tail: 'head' is not allowed\. Give 'last-layer' or 'enlarging'"):
        Protocol(first_last_bits=8, tail="head")
    with pytest.raises(ValueError, match="tail: 'enlarging' says nothing without first_last_bits"):
        Protocol(tail="enlarging")
