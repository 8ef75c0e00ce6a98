"""Rows, ranks and headlines: nothing that is not complete wins, nothing crosses protocols."""

from __future__ import annotations

import re

import pytest

from leaderboard.comparing import compare
from leaderboard.views.cells import findings
from leaderboard.views.comparison import method_lines

GOOD, FAIR, POOR = [1] * 90 + [0] * 10, [1] * 80 + [0] * 20, [1] * 60 + [0] * 40


def board_of(records, model="resnet8", bits="W4A4"):
    (comparison,) = compare(records)
    return next(board for board in comparison.boards if (board.model, board.bits) == (model, bits))


def test_a_board_has_scores_gaps_and_gains_that_were_worked_out_by_hand(record):
    (comparison,) = compare(
        [
            record("uniform-mse", POOR),
            record("best-uniform", FAIR),
            record("dqss", GOOD, seed=0),
            record("dqss", FAIR, seed=1),
        ]
    )
    (board,) = comparison.boards
    assert [(row.method, row.score, row.gap) for row in board.rows] == [
        ("dqss", 85.0, -5.0),
        ("best-uniform", 80.0, -10.0),
        ("uniform-mse", 60.0, -30.0),
    ]
    assert [row.gain.value for row in board.rows] == [5.0, 0.0, -20.0]
    # Full precision has 90, the bar 80: half of the ten points are won back, or twice as many lost.
    assert [row.closed for row in board.rows] == [50.0, None, -200.0]
    assert board.closed == comparison.headlines[0].closed == 50.0
    assert board.rows[0].spread == (80.0, 90.0)
    assert board.full_precision == (90.0, 90.0)
    assert board.rival.method == "best-uniform"


def test_a_bar_at_full_precision_leaves_no_gap_to_close(record):
    board = board_of([record("best-uniform", GOOD), record("dqss", FAIR, seed=0)])
    assert board.row("dqss").gain.value == -10.0
    assert board.closed is None


def test_a_search_that_loses_is_a_loss(record):
    (comparison,) = compare([record("best-uniform", GOOD), record("dqss", POOR, seed=0)])
    board = comparison.boards[0]
    assert board.gain.verdict == "loss"
    assert [row.method for row in board.rows] == ["best-uniform", "dqss"]
    assert board.row("dqss").rank is None
    assert comparison.headlines[0].count("loss") == 1


@pytest.mark.parametrize("status", ["failed", "skipped"])
def test_a_seed_without_a_result_keeps_the_whole_method_from_winning(record, status):
    board = board_of(
        [
            record("best-uniform", FAIR),
            record("dqss", GOOD, seed=0),
            record("dqss", None, seed=1, status=status, reason="no memory"),
        ]
    )
    row = board.row("dqss")
    assert row.state == "incomplete"
    assert (row.gain, row.rank) == (None, None)
    assert row.reasons == ((status, "no memory"),)
    assert board.rows[0].method == "best-uniform"
    # One method alone is not the best of any.
    assert board.rows[0].rank is None


def test_more_seeds_on_one_board_leave_the_others_complete(record):
    records = [record("best-uniform", FAIR, bits=bits) for bits in ("W4A4", "W8A8")]
    records += [record("dqss", GOOD, seed=0, bits=bits) for bits in ("W4A4", "W8A8")]
    records += [record("dqss", GOOD, seed=seed, bits="W8A8") for seed in (1, 2)]
    few, many = board_of(records, bits="W4A4"), board_of(records, bits="W8A8")
    assert (few.seeds, many.seeds) == ((0,), (0, 1, 2))
    assert few.row("dqss").rank == many.row("dqss").rank == "best"
    assert few.gain.value == many.gain.value == 10.0


def test_a_seed_that_only_other_methods_of_the_board_have_is_missing(record):
    records = [record("best-uniform", FAIR), record("dqss", GOOD, seed=0), record("tpe", FAIR, bits="W8A8", seed=0)]
    board = board_of([*records, record("random", POOR, seed=0), record("random", POOR, seed=1)])
    states = {row.method: (row.state, row.seeds) for row in board.rows if row.method != "tpe"}
    assert states == {"dqss": ("incomplete", 2), "random": ("complete", 2), "best-uniform": ("complete", 1)}
    assert board.row("tpe").state == "missing"


def test_agreement_over_seeds_is_the_mean_over_layers_kinds_and_pairs(record):
    strategies = [
        {"a": ("mse", "kl"), "b": ("mse", "kl")},
        {"a": ("mse", "kl"), "b": ("kl", "kl")},
        {"a": ("mse", "mse"), "b": ("kl", "mse")},
    ]
    records = [record("dqss", GOOD, seed=seed, strategy=strategy) for seed, strategy in enumerate(strategies)]
    # Of four choices a pair of seeds has 3 (0 and 1), 1 (0 and 2) and 2 (1 and 2) in common: 6 of 12.
    assert board_of(records).row("dqss").agreement == 50.0
    assert board_of(records[:2]).row("dqss").agreement == 75.0
    assert board_of(records[:1]).row("dqss").agreement is None


def test_rows_that_are_not_complete_are_in_reading_order_whatever_their_names(record):
    names = ["uniform-minmax", "uniform-adaround", "best-uniform", "random", "tpe", "a-new-one", "dqss-new", "dqss"]
    board = board_of([record(name, None, status="failed", reason="no") for name in reversed(names)])
    assert [row.method for row in board.rows] == names


def test_a_variant_of_dqss_is_no_rival_of_it(record):
    records = [record("best-uniform", FAIR), record("dqss-softmax", GOOD, seed=0), record("dqss", GOOD, seed=0)]
    assert board_of(records).rival.method == "best-uniform"


@pytest.mark.parametrize("status", ["failed", "skipped", None])
def test_without_the_bar_nobody_has_a_gain(record, status):
    records = [record("dqss", GOOD, seed=0), record("best-uniform", FAIR, bits="W8A8")]
    if status:
        records.append(record("best-uniform", None, status=status, reason="it broke"))
    board = board_of(records)
    assert board.row("best-uniform").state == (status or "missing")
    assert board.gain is None
    assert board.rows[-1].method == "best-uniform"


def test_cells_that_never_ran_are_on_the_board_of_every_model(record):
    (comparison,) = compare(
        [
            record("best-uniform", FAIR, model="resnet8"),
            record("dqss", GOOD, model="resnet8", seed=0),
            record("best-uniform", FAIR, model="resnet20"),
        ]
    )
    assert comparison.models == ("resnet8", "resnet20")
    assert comparison.boards[1].row("dqss").state == "missing"
    (headline,) = comparison.headlines
    assert headline.absent == ["resnet20"]
    assert headline.gain.value == 10.0
    assert headline.count("win") == 1


def test_protocols_tasks_modes_and_suites_are_never_ranked_together(record):
    apart = [
        record("dqss", GOOD),
        record("best-uniform", FAIR, protocol="academic"),
        record("best-uniform", FAIR, task="other"),
        record("best-uniform", FAIR, mode="qat"),
        record("best-uniform", FAIR, suite="quickstart"),
    ]
    comparisons = compare(apart)
    assert len(comparisons) == 5
    assert all(len(board.rows) == 1 and board.gain is None for c in comparisons for board in c.boards)


def test_two_protocols_of_one_name_are_never_ranked_together(record):
    records = [
        record(method, outcomes, bits=bits, first_last_bits=ends, seed=seed)
        for bits, ends in (("W4A4", None), ("W8A8", 8))
        for method, outcomes, seed in (("best-uniform", FAIR, None), ("dqss", GOOD, 0))
    ]
    comparisons = compare(records)
    assert [[board.bits for board in comparison.boards] for comparison in comparisons] in (
        [["W4A4"], ["W8A8"]],
        [["W8A8"], ["W4A4"]],
    )
    names = [comparison.protocol for comparison in comparisons]
    assert len(set(names)) == 2
    assert all(re.fullmatch(r"all-layers \([0-9a-f]{4}\)", name) for name in names)
    assert [comparison.protocol for comparison in compare(records[:2])] == ["all-layers"]


def test_methods_that_the_images_do_not_tell_apart_share_the_best_rank(record):
    nearly = [*GOOD[1:], 1]
    nearly[5] = nearly[6] = 0
    board = board_of([record("best-uniform", nearly), record("dqss", GOOD), record("random", POOR)])
    assert [(row.method, row.rank) for row in board.rows] == [
        ("dqss", "best"),
        ("best-uniform", "tied"),
        ("random", None),
    ]


def test_the_strongest_rival_may_be_stronger_than_the_bar(record):
    board = board_of([record("best-uniform", FAIR), record("uniform-mse", GOOD), record("dqss", FAIR, seed=0)])
    assert board.rival.method == "uniform-mse"
    assert board.row("uniform-mse").rank == "best"


def test_narrow_bits_come_first_and_models_in_the_order_people_count(record):
    names = [(model, bits) for model in ("resnet20", "resnet8") for bits in ("W8A8", "W4A4", "W4A8")]
    (comparison,) = compare([record("dqss", GOOD, model=model, bits=bits) for model, bits in names])
    assert comparison.bits == ("W4A4", "W4A8", "W8A8")
    assert comparison.models == ("resnet8", "resnet20")


def test_a_uniform_strategy_tells_its_pair_and_a_mixed_one_none(record):
    same, mixed = {"a": ("mse", "kl"), "b": ("mse", "kl")}, {"a": ("mse", "kl"), "b": ("mse", "mse")}
    board = board_of([record("best-uniform", FAIR, strategy=same), record("dqss", GOOD, strategy=mixed)])
    assert board.row("best-uniform").pair == ("mse", "kl")
    assert board.row("dqss").pair is None


def trained(record, method, outcomes, validation, seed=0, **facts):
    return record(method, outcomes, mode="qat", seed=seed, validation=validation, **facts)


def test_the_bar_of_training_is_the_uniform_algorithm_that_is_best_on_validation_not_on_test(record):
    board = board_of(
        [
            trained(record, "uniform-lsq", FAIR, 80.0),
            trained(record, "uniform-dsq", GOOD, 70.0),
            trained(record, "uniform-pact", POOR, 60.0),
            trained(record, "dqss", GOOD, 99.0),
        ]
    )
    assert (board.bar, board.bar_row.method) == ("uniform-lsq", "uniform-lsq")
    assert board.gain.value == board.row("uniform-dsq").gain.value == 10.0
    assert board.row("uniform-lsq").gain.value == 0
    # What the test images say is told beside it.
    assert board.rival.method == "uniform-dsq"


def test_the_bar_of_training_is_chosen_by_the_mean_over_seeds(record):
    records = [
        trained(record, method, FAIR, score, seed)
        for method, scores in (("uniform-lsq", (90.0, 60.0)), ("uniform-dsq", (78.0, 76.0)))
        for seed, score in enumerate(scores)
    ]
    assert board_of(records).bar == "uniform-dsq"


def test_a_uniform_algorithm_without_all_of_its_seeds_is_no_bar(record):
    records = [
        trained(record, "uniform-lsq", FAIR, 90.0),
        trained(record, "uniform-lsq", None, None, seed=1, status="failed", reason="loss: nan"),
        *(trained(record, method, GOOD, 80.0, seed) for method in ("uniform-dsq", "dqss") for seed in (0, 1)),
    ]
    assert board_of(records).bar == "uniform-dsq"
    alone = board_of(records[:2])
    assert (alone.bar, alone.bar_row, alone.gain) == (None, None, None)


def test_each_board_of_training_has_its_own_bar_and_a_headline_is_over_them(record):
    (comparison,) = compare(
        [
            trained(record, "uniform-lsq", FAIR, 80.0, model="resnet8"),
            trained(record, "uniform-dsq", FAIR, 70.0, model="resnet8"),
            trained(record, "uniform-lsq", POOR, 70.0, model="resnet20"),
            trained(record, "uniform-dsq", POOR, 80.0, model="resnet20"),
            trained(record, "dqss", GOOD, 0.0, model="resnet8"),
            trained(record, "dqss", GOOD, 0.0, model="resnet20"),
        ]
    )
    assert [board.bar for board in comparison.boards] == ["uniform-lsq", "uniform-dsq"]
    (headline,) = comparison.headlines
    assert headline.gain.value == sum(board.gain.value for board in comparison.boards) / 2


def test_tests_against_the_bar_are_corrected_for_all_cells_of_a_method(record):
    records = [record("best-uniform", FAIR, bits=bits) for bits in ("W4A4", "W8A8")]
    records += [record("dqss", GOOD, bits="W4A4", seed=0), record("dqss", FAIR, bits="W8A8", seed=0)]
    records += [record("random", GOOD, bits="W4A4", seed=0)]
    # Ten images of one hundred differ, all one way: 2 of 2^10 ways to sign them. DQSS is tested twice, random once.
    narrow, wide = board_of(records, bits="W4A4"), board_of(records, bits="W8A8")
    assert narrow.test.name == "McNemar"
    assert (narrow.test.p, narrow.test.holm) == pytest.approx((2 / 1024, 4 / 1024))
    assert (wide.test.p, wide.test.holm) == (1.0, 1.0)
    assert narrow.row("random").test.holm == pytest.approx(2 / 1024)
    assert narrow.bar_row.test is wide.row("random").test is None


def test_scores_of_images_are_tested_by_their_ranks(record):
    bar, mine = [20.0, 21.0, 22.0, 23.0, 24.0], [20.5, 21.75, 22.25, 24.0, 25.5]
    test = board_of([record("best-uniform", bar), record("dqss", mine, seed=0)]).test
    # Five of five are better: 2 of 2^5.
    assert (test.name, test.p, test.holm) == ("Wilcoxon", 0.0625, 0.0625)


def test_wins_over_the_bar_are_counted_over_all_cells_and_a_missing_one_is_none(record):
    cells = [("resnet8", "W4A4"), ("resnet8", "W8A8"), ("resnet20", "W4A4")]
    records = [record("best-uniform", FAIR, model=model, bits=bits) for model, bits in cells]
    records += [record("dqss", GOOD, model=model, bits=bits, seed=0) for model, bits in cells[:2]]
    records += [record("dqss", None, model="resnet20", seed=0, status="failed", reason="no memory")]
    records += [record("random", POOR, model="resnet20", seed=0)]
    (comparison,) = compare(records)
    bar, dqss, _ = comparison.standings.places
    assert (dqss.method, dqss.wins, dqss.cells, dqss.rank) == ("dqss", 2, 2, pytest.approx((1 + 1 + 3) / 3))
    assert (bar.wins, bar.cells) == (None, 3)
    # No board has resnet20 at W8A8.
    assert comparison.standings.cells == 3


def test_the_best_uniform_method_on_test_is_told_apart_from_the_bar(record):
    board = board_of(
        [record("best-uniform", FAIR), record("uniform-mse", GOOD), record("dqss", GOOD, seed=0)],
    )
    assert (board.bar, board.oracle.method) == ("best-uniform", "uniform-mse")


def test_a_headline_has_the_median_of_its_models_beside_the_mean(record):
    records = []
    for model, hits in (("a", 82), ("b", 81), ("c", 100)):
        records.append(record("best-uniform", [1] * 80 + [0] * 20, model=model))
        records.append(record("dqss", [1] * hits + [0] * (100 - hits), model=model, seed=0))
    (comparison,) = compare(records)
    (headline,) = comparison.headlines
    assert headline.gain is not None
    assert headline.gain.value == pytest.approx((2 + 1 + 20) / 3)
    assert headline.median == pytest.approx(2)


def test_a_search_among_other_candidates_than_the_bars_has_no_gain(record):
    (comparison,) = compare(
        [
            record("best-uniform", FAIR),
            record("uniform-kl", GOOD, quantizers=["kl"]),
            record("random", GOOD, seed=0, quantizers=["mse", "minmax"]),
            record("tpe", GOOD, seed=0, quantizers=["minmax"]),
            record("dqss", GOOD, seed=0, quantizers=["minmax", "mse", "kl"]),
        ]
    )
    (board,) = comparison.boards
    gains = {row.method: row.gain.value if row.gain else None for row in board.rows}
    # One candidate is what a uniform method has by nature, and the order of candidates is no difference.
    assert gains == {"best-uniform": 0.0, "uniform-kl": 10.0, "random": 10.0, "tpe": None, "dqss": None}
    assert (board.gain, board.closed, board.test, board.unlike) == (None, None, None, True)
    assert comparison.headlines[0].absent == ["resnet8"]
    assert comparison.headlines[0].gain is None
    assert findings(board, "points") == [
        "DQSS chose among other candidates than the best uniform pair: no gain over it is given.",
        "The strongest rival, uniform-kl, scores the same.",
        "Among other candidates than the bar, so without a gain: tpe.",
    ]


def test_algorithms_of_training_are_judged_whatever_else_dqss_chooses_among(record):
    board = board_of(
        [
            trained(record, "uniform-lsq", FAIR, 80.0, quantizers=["lsq"]),
            trained(record, "uniform-dsq", POOR, 70.0, quantizers=["dsq"]),
            trained(record, "dqss", GOOD, 85.0, quantizers=["lsq", "dsq"]),
        ]
    )
    assert [row.gain.value for row in board.rows] == [10.0, 0.0, -20.0]
    assert not board.unlike


def test_training_in_which_no_uniform_method_is_complete_says_so(record):
    records = [
        trained(record, "dqss", GOOD, 85.0),
        trained(record, "uniform-lsq", None, None, status="failed", reason="loss: nan"),
    ]
    assert findings(board_of(records), "points")[0] == "No uniform method is complete here, so there is no bar."


def test_the_gap_closed_of_a_headline_is_of_the_models_of_its_gain(record):
    records = []
    # Full precision has 90: the bar is 10, 0 and 4 below it, DQSS gains 5, -10 and 1.
    for model, bar, mine in (("a", 80, 85), ("b", 90, 80), ("c", 86, 87)):
        records.append(record("best-uniform", [1] * bar + [0] * (100 - bar), model=model))
        records.append(record("dqss", [1] * mine + [0] * (100 - mine), model=model, seed=0))
    # Not judged: its gap counts for nothing.
    records.append(record("best-uniform", POOR, model="d"))
    (headline,) = compare(records)[0].headlines
    assert headline.gain.value == pytest.approx(-4 / 3)
    assert headline.closed == pytest.approx(100 * (5 - 10 + 1) / (10 + 0 + 4))


def test_a_headline_without_a_gap_of_its_bar_closes_none(record):
    records = [record("best-uniform", GOOD), record("dqss", FAIR, seed=0)]
    (headline,) = compare(records)[0].headlines
    assert (headline.gain.value, headline.closed) == (-10.0, None)


def test_a_method_alone_on_a_board_has_no_rank_and_its_cell_counts_for_none(record):
    records = [record("best-uniform", FAIR), record("dqss", GOOD, seed=0)]
    records += [record("random", FAIR, bits="W8A8", seed=0)]
    (comparison,) = compare(records)
    assert [row.rank for board in comparison.boards for row in board.rows if row.ranked] == ["best", None, None]
    assert comparison.standings.cells == 1
    assert [place.method for place in comparison.standings.places] == ["dqss", "best-uniform"]


def lines_of(records):
    (comparison,) = compare(records)
    return {line.method: line for line in method_lines(comparison)}


def test_cells_won_are_a_share_of_those_that_ranks_are_over(record):
    records = [record("best-uniform", FAIR, bits=bits) for bits in ("W4A4", "W4A8", "W8A8")]
    records += [record("dqss", GOOD, bits="W4A4", seed=0), record("dqss", FAIR, bits="W4A8", seed=0)]
    records += [record("dqss", None, bits="W8A8", seed=0, status="failed", reason="no memory")]
    lines = lines_of(records)
    # At W8A8 there is nothing to rank: one cell of two.
    assert lines["dqss"].won == 50.0
    assert lines["best-uniform"].won == 0.0
    alone = lines_of(records[:1])
    assert (alone["best-uniform"].won, alone["best-uniform"].place) == (None, None)


def test_a_bar_does_not_tie_with_itself(record):
    lines = lines_of(
        [
            trained(record, "uniform-lsq", FAIR, 80.0, model="resnet8"),
            trained(record, "uniform-dsq", POOR, 70.0, model="resnet8"),
            trained(record, "uniform-lsq", FAIR, 70.0, model="resnet20"),
            trained(record, "uniform-dsq", FAIR, 80.0, model="resnet20"),
            trained(record, "dqss", GOOD, 0.0, model="resnet8"),
            trained(record, "dqss", GOOD, 0.0, model="resnet20"),
        ]
    )
    # The bar is lsq on resnet8 and dsq on resnet20, where lsq ties with it.
    assert lines["uniform-dsq"].verdicts == {"win": 0, "tie": 0, "loss": 1, "open": 0}
    assert lines["uniform-lsq"].verdicts == {"win": 0, "tie": 1, "loss": 0, "open": 0}
    assert (lines["uniform-dsq"].gain, lines["uniform-lsq"].gain) == (-20.0, 0.0)
