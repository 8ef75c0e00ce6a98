"""The table of headlines, and that README's is the one of the official results."""

from __future__ import annotations

from pathlib import Path

from scipy.stats import binom

from leaderboard.comparing import compare
from leaderboard.headline import headline_table
from leaderboard.load import index_of, read_whole

ROOT = Path(__file__).parents[2]
GOOD, FAIR = [1] * 90 + [0] * 10, [1] * 80 + [0] * 20


def test_a_line_for_each_bit_width_says_gain_interval_and_verdicts(record):
    records = [record("best-uniform", FAIR), record("dqss", GOOD, seed=0)]
    # 10 of 100 images are right in place of wrong, 0 the other way: the gain is 10 points.
    head, rule, line = headline_table(compare(records)).splitlines()
    assert head.startswith("| board | bits | mean gain of DQSS |")
    assert rule == "|---" * 8 + "|"
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[:3] == ["demo (fashion-mnist, PTQ, all-layers)", "W4A4", "+10.00 points"]
    low, high = (float(end) for end in cells[3].split(" to "))
    # A resample of 100 images holds as many of the ten as a binomial number says.
    assert (low, high) == (binom.ppf(0.025, 100, 0.1), binom.ppf(0.975, 100, 0.1))
    # From 80 to 90 where full precision has 90.
    assert cells[4:] == ["+10.00", "100 %", "1, 0, 0", "0"]


def test_a_model_that_cannot_be_judged_is_counted_as_such(record):
    records = [record("best-uniform", FAIR), record("dqss", None, seed=0, status="failed", reason="no memory")]
    line = headline_table(compare(records)).splitlines()[-1]
    assert "| \N{EN DASH} | \N{EN DASH} | \N{EN DASH} | \N{EN DASH} | 0, 0, 0; 1 model not judged |" in line


def test_readme_shows_the_headlines_of_the_official_results():
    results = ROOT / "leaderboard" / "results"
    table = headline_table(compare(read_whole(results, index_of(results).entries)[0]))
    assert table in (ROOT / "README.md").read_text(encoding="utf-8")
