from __future__ import annotations

from dataclasses import asdict

from benchmarks.records import LayerChoice, Record, key_of
from benchmarks.runs import metrics_of, parameters_of, strategy_text
from dqss.spec import PROTOCOLS, Bits
from dqss.strategy import Choice, Strategy

DEFINITION = {"protocol": asdict(PROTOCOLS["academic"]), "task": {"name": "fashion-mnist", "version": 2}}
RECORD = Record(
    key=key_of(DEFINITION),
    definition=DEFINITION,
    suite="tour",
    suite_version=1,
    task="fashion-mnist",
    model="resnet8",
    bits="W4A8",
    mode="ptq",
    protocol="academic",
    method="dqss",
    seed=0,
    status="ok",
    relaxed_loss=0.5,
    discretized_loss=0.625,
    strategy={
        "conv1": LayerChoice(weight="mse", activation="kl", bits="W8A8"),
        "conv2": LayerChoice(weight="kl", activation="minmax", bits="W4A8"),
    },
    curves={"relaxed_loss": [0.75, 0.5], "p(mse)": [0.25]},
    started="2030-01-02T03:04:05+00:00",
)


def test_the_strategy_reads_back_as_a_strategy() -> None:
    layers = {"conv1": Choice("mse", "kl", Bits(8, 8)), "conv2": Choice("kl", "minmax", Bits(4, 8))}
    expected = Strategy(layers, Bits(4, 8), PROTOCOLS["academic"])
    assert Strategy.from_json(strategy_text(RECORD)) == expected
    assert strategy_text(RECORD) == expected.to_json()


def test_a_curve_and_a_scalar_of_one_name_stay_apart() -> None:
    assert list(metrics_of(RECORD)) == [
        ("relaxed_loss", 0.5, 0),
        ("discretized_loss", 0.625, 0),
        ("curve/relaxed_loss", 0.75, 0),
        ("curve/relaxed_loss", 0.5, 1),
        ("curve/p_mse_", 0.25, 0),
    ]


def test_parameters_hold_the_whole_definition() -> None:
    parameters = parameters_of(RECORD)
    assert parameters["task"] == "fashion-mnist"
    assert parameters["task.version"] == "2"
    assert parameters["protocol"] == "academic"
    assert parameters["protocol.first_last_bits"] == "8"


def test_the_gap_to_full_precision_has_the_sign_that_it_has_on_the_board() -> None:
    record = RECORD.model_copy(update={"score": 90.5, "full_precision_score": 92.25})
    assert ("gap_to_full_precision", -1.75, 0) in list(metrics_of(record))
