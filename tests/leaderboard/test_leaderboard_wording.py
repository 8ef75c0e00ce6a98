"""Signs and dashes that a reader sees."""

from __future__ import annotations

from leaderboard.statistics import Interval
from leaderboard.views.base import slug
from leaderboard.views.wording import budget_words, command, interval, number, protocol_words, seconds, signed


def test_minus_is_a_minus_sign_and_what_rounds_to_zero_has_none():
    assert signed(-0.5) == "\N{MINUS SIGN}0.50"
    assert number(-1234.56, 1) == "\N{MINUS SIGN}1,234.6"
    assert signed(-0.004) == signed(0.004) == "0.00"
    assert interval(Interval(-0.5, 1.25)) == "\N{MINUS SIGN}0.50 to +1.25"


def test_nothing_is_a_dash():
    assert number(None) == signed(None) == seconds(None) == "\N{EN DASH}"
    assert interval(None) == "no interval"


def test_a_slug_is_safe_and_tells_apart_what_looks_alike():
    assert "/" not in slug("../../etc/passwd")
    assert slug("a_b") != slug("a b")
    assert slug("a", "b") != slug("a-b")


def test_a_protocol_with_its_ends_at_eight_bits_says_so(record):
    definition = record("dqss", [1]).definition
    eight = {**definition, "protocol": {**definition["protocol"], "first_last_bits": 8}}
    assert protocol_words(record("dqss", [1]).model_copy(update={"definition": eight})).endswith("at 8 bits")
    eight["protocol"]["tail"] = "enlarging"
    said = protocol_words(record("dqss", [1]).model_copy(update={"definition": eight}))
    assert said.endswith("first and all from the enlarging one on at 8 bits")
    assert protocol_words(record("dqss", [1]).model_copy(update={"definition": {"protocol": "odd"}})) == ""


def test_a_budget_says_what_is_unusual_about_its_steps(record):
    training = {"epochs": 1, "batch_size": 32, "distillation": 0.5, "precision": "bf16", "accumulation": 2}
    definition = {**record("dqss", [1]).definition, "training": training}
    said = budget_words(record("dqss", [1]).model_copy(update={"definition": definition}))
    assert said == "1 epoch in batches of 32, 0.5 of the loss by distillation, precision bf16, accumulation 2"


def test_the_command_of_a_cell_that_several_processes_trained_together_starts_as_many(record):
    trained = record("dqss", [1], mode="qat", seed=2, training={"epochs": 1, "batch_size": 32, "distillation": 0.0})
    rest = "run demo --only model=resnet8,bits=W4A4,method=dqss,mode=qat --seeds 2"
    assert command(trained.model_copy(update={"parallel": "cells", "processes": 2})) == f"dqss-bench {rest} --out again"

    shared = trained.model_copy(update={"parallel": "data", "processes": 2, "hardware": {"device": "NVIDIA A100"}})
    launch = "accelerate launch --multi_gpu --num_processes 2 -m benchmarks"
    assert command(shared) == f"{launch} {rest} --parallel data --out again"
    on_cpu = shared.model_copy(update={"hardware": {"device": "cpu"}})
    assert command(on_cpu) == f"ACCELERATE_USE_CPU=true {launch} {rest} --parallel data --out again"
    training = {"training": {**on_cpu.definition["training"], "zero": 2}}
    by_zero = on_cpu.model_copy(update={"definition": {**on_cpu.definition, **training}})
    assert command(by_zero) == f"DS_ACCELERATOR=cpu {launch} {rest} --parallel data --out again"
