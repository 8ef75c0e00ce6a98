import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dqss.spec import PROTOCOLS, Bits, Protocol, Scheme
from dqss.strategy import Choice, Strategy

bits = st.builds(Bits, st.integers(2, 8), st.integers(2, 8))
granularities = st.sampled_from(["per-tensor", "per-channel"])
protocols = st.builds(
    Protocol,
    first_last_bits=st.none() | st.integers(2, 8),
    weight=st.builds(Scheme, st.booleans(), granularities),
    activation=st.builds(Scheme, st.booleans(), st.just("per-tensor")),
)
strategies = st.builds(
    Strategy,
    layers=st.dictionaries(st.text(), st.builds(Choice, st.text(), st.text(), bits), max_size=4),
    bits=bits,
    protocol=protocols,
)

EXAMPLE = Strategy(
    {"conv": Choice("mse", "kl", Bits(8, 8)), "fc": Choice("minmax", "mse", Bits(4, 4))},
    Bits(4, 4),
    PROTOCOLS["academic"],
)


@settings(deadline=None, derandomize=True, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(strategies)
def test_json_gives_back_the_strategy_and_the_order_of_its_layers(strategy):
    read = Strategy.from_json(strategy.to_json())
    assert read == strategy
    assert list(read.layers) == list(strategy.layers)


def test_json_is_plain_to_read():
    assert json.loads(EXAMPLE.to_json()) == {
        "format": 1,
        "bits": "W4A4",
        "protocol": {
            "first_last_bits": 8,
            "weight": {"symmetric": True, "granularity": "per-tensor"},
            "activation": {"symmetric": False, "granularity": "per-tensor"},
            "tail": "last-layer",
        },
        "layers": {
            "conv": {"weight": "mse", "activation": "kl", "bits": "W8A8"},
            "fc": {"weight": "minmax", "activation": "mse", "bits": "W4A4"},
        },
    }


@pytest.mark.parametrize("text", ["{}", "[]", "3", "null", '"text"', '{"format": 1}', '{"format": 1, "bits": "W4A4"}'])
def test_foreign_json_is_refused_with_what_to_do(text):
    with pytest.raises(ValueError, match=r"strategy: not a strategy\.json .* Write one with Strategy\.to_json"):
        Strategy.from_json(text)


def test_text_that_is_no_json_is_refused():
    with pytest.raises(ValueError, match="Expecting value"):
        Strategy.from_json("layers: none")


def test_another_format_is_refused():
    with pytest.raises(ValueError, match=r"format: 2 is not readable\. This program reads 1"):
        Strategy.from_json(EXAMPLE.to_json().replace('"format": 1', '"format": 2'))


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["bits"], "W1A4", "'W1A4' is not a bit-width"),
        (["layers"], ["conv"], "not a strategy.json"),
        (["layers", "conv"], "mse", "not a strategy.json"),
        (["layers", "conv", "bits"], None, "'None' is not a bit-width"),
        (["layers", "conv", "weight"], 3, "3, which is not a quantizer's name"),
        (["protocol"], None, "not a strategy.json"),
        (["protocol", "weight"], {"symmetric": True}, "not a strategy.json"),
        (["protocol", "weight", "rounding"], "up", "not a strategy.json"),
        (["protocol", "weight", "granularity"], "per-row", "granularity: 'per-row' is not allowed"),
        (["protocol", "activation", "granularity"], "per-channel", "'per-channel' is not allowed"),
        (["protocol", "activation", "symmetric"], "no", "symmetric: 'no' is not allowed"),
        (["protocol", "first_last_bits"], 9, "first_last_bits: 9 is not allowed"),
        (["protocol", "first_last_bits"], "8", "not a strategy.json"),
        (["protocol", "tail"], ["enlarging"], r"tail: \['enlarging'\] is not allowed"),
    ],
)
def test_a_wrong_value_is_refused(path, value, message):
    content = json.loads(EXAMPLE.to_json())
    place = content
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(ValueError, match=message):
        Strategy.from_json(json.dumps(content))
