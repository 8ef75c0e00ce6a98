"""The layer explorer: what its tables and figures hold, and two strategies side by side."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.records import LayerFacts
from leaderboard.boards import Board
from leaderboard.build import make_environment
from leaderboard.comparing import compare
from leaderboard.views.chart import PLOT_WIDTH, RowSeries, linear, logarithmic, row_plot
from leaderboard.views.choices import contrasts, data_of, fields_of, layers_of, opponents, runs_of
from leaderboard.views.layers import BAR_WIDTH, bar_length, found_in, page_of, sensitivities
from leaderboard.views.wording import NOTHING
from tests.leaderboard.reading import Reader

GOOD, FAIR = [1] * 90 + [0] * 10, [1] * 80 + [0] * 20
CHOICES = {"stem.conv": ("mse", "minmax"), "fc": ("minmax", "mse")}
SAME = {"stem.conv": ("mse", "mse"), "fc": ("mse", "mse")}
HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"


def told(made, **sensitivity: float | None):
    """The record with a sensitivity in its first layers, in their order."""
    values = [*sensitivity.values()]
    layers = {
        name: facts.model_copy(update={"sensitivity": value})
        for (name, facts), value in zip(made.layers.items(), values, strict=True)
    }
    return made.model_copy(update={"layers": layers})


def page_words(tmp_path: Path, *records) -> tuple[Reader, str]:
    """The explorer of the one board that these records make: parsed, and as written."""
    (comparison,) = compare(records)
    page = page_of(comparison, comparison.boards[0])
    text = make_environment().get_template(page.template).render({"page": page, **page.values})
    path = tmp_path / "page.html"
    path.write_text(text)
    return Reader(path), text


def board_of(*records) -> Board:
    (comparison,) = compare(records)
    return comparison.boards[0]


def test_each_layer_marks_what_was_chosen_beside_the_share_of_every_candidate(record, tmp_path):
    seeds = [record("dqss", GOOD, seed=seed, strategy=CHOICES, alpha=[0.25, 0.75]) for seed in (0, 1)]
    page, _ = page_words(tmp_path, record("best-uniform", FAIR, strategy=SAME), *seeds)
    cells = [str(found["class"]) for tag, found in page.elements if tag == "td" and "heat" in str(found.get("class"))]
    # Candidates are minmax and mse with alpha 0.25 and 0.75: per seed stem.conv took (mse, minmax), fc (minmax, mse).
    one_seed = ["heat heat-2", "heat heat-8 chosen", "heat heat-2 chosen", "heat heat-8"]
    one_seed += ["heat heat-2 chosen", "heat heat-8", "heat heat-2", "heat heat-8 chosen"]
    assert cells == one_seed * 2
    words = page.words()
    assert words.count("0.75 chosen") == words.count("0.25 chosen") == 4
    assert words.count("17.2 0.56") == 4
    assert "All runs chose the same pair in 2 of 2 layers; seeds agree on 100 % of choices" in words
    assert "+10.00 points DQSS over the best uniform pair" in words


def test_the_discretization_gap_is_what_rounding_alpha_costs_not_what_the_search_mended(record, tmp_path):
    losses = {"calibration_loss": 0.25, "relaxed_loss": 0.125, "discretized_loss": 0.75}
    page, _ = page_words(tmp_path, record("dqss", GOOD, seed=0, strategy=CHOICES, losses=losses))
    assert (
        "calibration loss 0.25000; relaxed 0.12500, what alpha stands for 0.75000: discretization gap +0.62500;"
        in page.words()
    )


def test_training_names_its_bar_and_its_score_on_search_validation(record, tmp_path):
    bar = record("uniform-lsq", FAIR, mode="qat", seed=0, validation=80.0, strategy=SAME)
    mine = record("dqss", GOOD, mode="qat", seed=0, validation=85.5, strategy=CHOICES, alpha=[0.25, 0.75])
    page, _ = page_words(tmp_path, bar, mine)
    assert "+10.00 points DQSS over the best uniform algorithm (lsq)" in page.words()
    assert "on search-validation 85.50 %" in page.words()
    assert "these records do not tell; training measures none." in page.words()
    assert "A, dqss, seed 0, and B, uniform-lsq, seed 0, differ in 2 of 2 layers." in page.words()


def test_layers_stand_in_the_networks_order_which_is_that_of_the_facts(record):
    made = record("dqss", GOOD, seed=0, strategy={"b": ("mse", "mse"), "a": ("mse", "mse"), "c": ("mse", "mse")})
    made = made.model_copy(update={"layers": {name: made.layers[name] for name in ("a", "b")}})
    assert found_in(made).names == ["a", "b", "c"]
    assert found_in(made).lines[2].facts == LayerFacts(weight_sqnr_db=None, activation_sqnr_db=None)


def test_a_sensitivity_ten_times_as_large_has_a_bar_longer_by_the_same_length(record):
    made = record("dqss", GOOD, seed=0, strategy=dict.fromkeys("abcde", ("mse", "mse")))
    table = found_in(told(made, a=0.0001, b=0.001, c=0.01, d=0.0, e=None))
    scale = sensitivities([table])
    short, middle, long, nil, none = (bar_length(scale, line.facts.sensitivity) for line in table.lines)
    assert (short, middle, long) == (2.0, BAR_WIDTH / 2, BAR_WIDTH)
    assert nil == none == 0
    assert sensitivities([found_in(made)]) is None


def test_the_page_shows_sensitivity_where_it_is_known_and_says_so_where_it_is_not(record, tmp_path):
    old = record("dqss", GOOD, seed=0, strategy=CHOICES, alpha=[0.25, 0.75])
    page, _ = page_words(tmp_path, told(old, stem=0.0000137336, fc=0.5), record("best-uniform", FAIR, strategy=SAME))
    words = page.words()
    assert "stem.conv 0.0000137 17.2" in words
    assert "its bar is logarithmic, from 0.00001 to 1." in words
    assert [str(found["width"]) for tag, found in page.elements if tag == "rect" and found.get("height") == "8"] == [
        "2.0",
        str(round(BAR_WIDTH * (math.log10(0.5) + 5) / 5, 1)),
    ]
    figures = [found["data-name"] for tag, found in page.elements if tag == "figure"]
    assert figures == ["resnet8-W4A4-sensitivity-seed-0", "resnet8-W4A4-sqnr-seed-0"]
    page, _ = page_words(tmp_path, old)
    assert "How sensitive each layer is, these records do not tell." in page.words()
    assert "Sensitivity" not in page.words()
    assert [found["data-name"] for tag, found in page.elements if tag == "figure"] == ["resnet8-W4A4-sqnr-seed-0"]


def test_bits_have_a_column_only_where_layers_differ_in_them(record, tmp_path):
    made = record("dqss", GOOD, seed=0, strategy=CHOICES)
    page, _ = page_words(tmp_path, made)
    assert "all at W4A4" in page.words()
    wider = made.strategy["fc"].model_copy(update={"bits": "W8A8"})
    page, _ = page_words(tmp_path, made.model_copy(update={"strategy": {**made.strategy, "fc": wider}}))
    assert "all at W4A4" not in page.words()
    assert "stem.conv W4A4" in page.words()
    assert "fc W8A8" in page.words()


def test_dqss_is_compared_with_the_bar_first_and_with_every_run_that_has_a_strategy(record):
    board = board_of(
        record("uniform-mse", FAIR, strategy=SAME),
        record("best-uniform", FAIR, strategy=SAME),
        record("random", GOOD, seed=1, strategy=CHOICES),
        record("uniform-minmax", GOOD),
        *(record("dqss", FAIR, seed=seed, strategy=CHOICES) for seed in (0, 1)),
    )
    runs = runs_of(board)
    # Random has no seed 0, so that it is not ranked.
    assert [run.name for run in runs] == [
        "dqss, seed 0",
        "dqss, seed 1",
        "best-uniform",
        "uniform-mse",
        "random, seed 1",
    ]
    a, b = opponents(board, runs)
    assert (a.id, b.id) == ("dqss:0", "best-uniform")
    alone = board_of(*(record("dqss", FAIR, seed=seed, strategy=CHOICES) for seed in (0, 1)))
    assert [run.id for run in opponents(alone, runs_of(alone))] == ["dqss:0", "dqss:1"]
    one = board_of(record("dqss", FAIR, seed=0, strategy=CHOICES))
    assert opponents(one, runs_of(one)) is None


def test_two_strategies_differ_where_either_algorithm_does_and_where_a_layer_is_missing(record):
    mine = {"a": ("mse", "mse"), "b": ("mse", "mse"), "c": ("mse", "mse"), "d": ("mse", "mse"), "e": ("mse", "mse")}
    theirs = {**mine, "b": ("kl", "mse"), "c": ("mse", "kl"), "d": ("kl", "kl")}
    del theirs["e"]
    board = board_of(record("dqss", FAIR, seed=0, strategy=mine), record("best-uniform", FAIR, strategy=theirs))
    runs = runs_of(board)
    rows = contrasts(*opponents(board, runs), layers_of(runs))
    assert [(row.layer, row.differs) for row in rows] == [
        ("a", "nothing"), ("b", "weights"), ("c", "activations"), ("d", "both"), ("e", "both"),
    ]  # fmt: skip


def test_the_page_without_scripts_compares_the_first_seed_with_the_bar(record, tmp_path):
    seeds = [record("dqss", GOOD, seed=seed, strategy=CHOICES, alpha=[0.25, 0.75]) for seed in (0, 1)]
    bar = record("best-uniform", FAIR, strategy={"stem.conv": ("mse", "mse"), "fc": ("minmax", "mse")})
    page, _ = page_words(tmp_path, bar, *seeds)
    words = page.words()
    assert "A, dqss, seed 0, and B, best-uniform, differ in 1 of 2 layers." in words
    assert "stem.conv activations mse mse minmax mse 17.2 17.2" in words
    assert "fc nothing minmax minmax mse mse 17.2 17.2" in words
    marked = [tag for tag, found in page.elements if found.get("class") == "differs"]
    # The word itself, and both activations of stem.conv.
    assert marked == ["td"] * 3
    assert {found["data-seed"] for _, found in page.elements if "data-seed" in found} == {"0", "1"}


def test_the_embedded_data_is_json_that_no_name_breaks_out_of(record, tmp_path):
    hostile = {HOSTILE: ("mse", HOSTILE), "fc": (HOSTILE, "mse")}
    records = [
        record("dqss", GOOD, model=HOSTILE, seed=0, strategy=hostile),
        record(HOSTILE, FAIR, model=HOSTILE, strategy=hostile),
    ]
    page, text = page_words(tmp_path, *records)
    scripts = [found for tag, found in page.elements if tag == "script"]
    assert [found.get("type") for found in scripts] == [None, None, "application/json"]
    assert not {"img", "iframe", "object"} & {tag for tag, _ in page.elements}
    embedded = re.search(r'<script type="application/json"[^>]*>(.*?)</script>', text, re.DOTALL)
    assert embedded is not None
    runs = runs_of(board_of(*records))
    assert json.loads(embedded[1]) == data_of(runs, layers_of(runs))
    assert json.loads(embedded[1])[1]["id"] == HOSTILE
    assert json.loads(embedded[1])[0]["choices"][0][1] == HOSTILE


def test_every_run_has_a_place_for_every_layer_in_the_data(record):
    board = board_of(
        record("dqss", FAIR, seed=0, strategy=CHOICES), record("best-uniform", FAIR, strategy={"fc": ("kl", "kl")})
    )
    runs = runs_of(board)
    assert fields_of(runs) == ["weight", "activation", "weight_sqnr", "activation_sqnr"]
    assert [run["choices"] for run in data_of(runs, layers_of(runs))] == [
        [["mse", "minmax", "17.2", NOTHING], ["minmax", "mse", "17.2", NOTHING]],
        [None, ["kl", "kl", "17.2", NOTHING]],
    ]


def test_the_headers_of_a_layers_table_are_one_row_with_a_name_for_each_cell(record, tmp_path):
    page, text = page_words(tmp_path, told(record("dqss", GOOD, seed=0, strategy=CHOICES), stem=0.1, fc=0.2))
    (table,) = re.findall(r'<table class="layers datatable".*?</table>', text, re.DOTALL)
    head, body = table.split("</thead>")
    assert head.count("<tr>") == 1
    # Layer, sensitivity, and of weights and activations SQNR, entropy and two candidates.
    assert head.count("<th ") == 10
    for row in body.split("</tr>")[:-1]:
        assert row.count("<t") - row.count("<tr") - row.count("<tbody") == 10
    assert sum(int(found["span"]) for tag, found in page.elements if tag == "colgroup") == 10


values = st.lists(st.one_of(st.none(), st.floats(1e-9, 1e3)), min_size=1, max_size=70).filter(any)


@given(values)
def test_every_value_has_a_point_in_its_row_within_the_plot_and_larger_ones_lie_to_the_right(series):
    names = [f"features.{i}.block.expansion.conv2d.weight" for i in range(len(series))]
    for scale in (linear, logarithmic):
        plot = row_plot(names, [RowSeries("one", series)], "x", scale)
        (one,) = plot.series
        known = [(value, row.at) for value, row in zip(series, plot.rows, strict=True) if value is not None]
        assert [dot.y for dot in one.dots] == [y for _, y in known]
        assert all(plot.left < dot.x < PLOT_WIDTH for dot in one.dots)
        by_value = sorted(zip((value for value, _ in known), (dot.x for dot in one.dots), strict=True))
        assert [x for _, x in by_value] == sorted(x for _, x in by_value)
        assert all(0 < row.at < plot.bottom < plot.height for row in plot.rows)


def test_long_names_are_shortened_in_the_middle_and_told_in_full():
    name = "features.13.block.expansion.depthwise.conv2d"
    plot = row_plot([name], [RowSeries("sqnr", [12.5])], "x", linear)
    assert len(plot.rows[0].label) == 34
    assert plot.rows[0].label.startswith("features.13…")
    assert name.endswith(plot.rows[0].label.split("…")[1])
    assert plot.series[0].dots[0].told == f"{name}: sqnr 12.5"


@pytest.mark.parametrize(
    ("low", "high", "labels"),
    [(1e-3, 1e-2, ["0.001", "0.002", "0.005", "0.01"]), (1e-3, 1.0, ["0.001", "0.01", "0.1", "1"])],
)
def test_of_many_logarithmic_ticks_only_powers_of_ten_have_a_label(low, high, labels):
    plot = row_plot(["a", "b"], [RowSeries("one", [low, high])], "x", logarithmic)
    assert [tick.label for tick in plot.x_ticks if tick.label] == labels
