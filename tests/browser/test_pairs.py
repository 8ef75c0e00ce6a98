"""What a reader may choose two of: two methods of a board, two strategies of a network; against the records."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from benchmarks.records import Record
from tests.browser.harness import Visitor, all_pages
from tests.browser.sample import BITS, LAYERS, MODELS, PTQ, classification, mean_scores

MODEL, WIDTH = "resnet8", "W4A4"
ROWS = "(table) => [...table.tBodies[0].rows].map((row) => [...row.cells].map((cell) => cell.innerText.trim()))"


def page_of(site: Path, folder: str) -> str:
    pattern = f"{folder}/classification-" + (f".*-{MODEL}-{WIDTH.lower()}-" if folder == "layers" else "")
    (path,) = [path for path in all_pages(site) if re.match(pattern, path)]
    return path


def value(text: str) -> float | None:
    return None if text == "\N{EN DASH}" else float(text.replace("\N{MINUS SIGN}", "-"))


@pytest.fixture(scope="module")
def runs() -> dict[tuple[str, int | None], Record]:
    cells = [r for r in classification() if (r.model, r.bits) == (MODEL, WIDTH) and r.strategy]
    return {(record.method, record.seed): record for record in cells}


class TestTwoMethods:
    """The difference of their scores in every cell, and who wins where."""

    @pytest.fixture
    def page(self, visitor: Visitor, site: Path) -> Page:
        return visitor.open(page_of(site, "compare"))

    def shown(self, page: Page) -> dict[tuple[str, str], list[str]]:
        return {(row[0], row[1]): row[2:] for row in page.locator("table#cells").evaluate(ROWS)}

    def expected(self, mine: str, other: str) -> dict[tuple[str, str], float | None]:
        known = mean_scores()
        differences: dict[tuple[str, str], float | None] = {}
        for model in MODELS:
            for bits in BITS:
                pair = (known.get((mine, model, bits)), known.get((other, model, bits)))
                differences[model, bits] = None if pair[0] is None or pair[1] is None else pair[0] - pair[1]
        return differences

    def choose(self, page: Page, mine: str, other: str) -> None:
        page.get_by_label("Method A").select_option(label=mine)
        page.get_by_label("Method B").select_option(label=other)

    def test_any_two_can_be_compared(self, page: Page) -> None:
        for mine, other in (("random", "fisher"), ("uniform-kl", "dqss"), ("best-uniform", "uniform-percentile")):
            self.choose(page, mine, other)
            shown = {cell: value(row[2]) for cell, row in self.shown(page).items()}
            expected = self.expected(mine, other)
            assert shown == {cell: None if d is None else pytest.approx(d, abs=0.006) for cell, d in expected.items()}

    def test_the_two_the_other_way_round_are_the_same_with_the_other_sign(self, page: Page) -> None:
        self.choose(page, "dqss", "random")
        before = {cell: value(row[2]) for cell, row in self.shown(page).items()}
        page.get_by_role("button", name="Swap").click()
        after = {cell: value(row[2]) for cell, row in self.shown(page).items()}
        assert after == {cell: None if d is None else -d for cell, d in before.items()}

    def test_wins_ties_and_losses_are_those_of_the_table_of_all_pairs(self, page: Page) -> None:
        heads = page.locator("table#pairs thead th").all_inner_texts()
        for row in page.locator("table#pairs").evaluate(ROWS)[::3]:
            for other, cell in list(zip(heads, row[1:], strict=True))[::3]:
                if other == row[0]:
                    continue
                self.choose(page, row[0], other)
                verdicts = [found[-1] for found in self.shown(page).values()]
                counts = ", ".join(str(verdicts.count(verdict)) for verdict in ("win", "tie", "loss"))
                assert cell.split("\n")[0] == counts, (row[0], other)

    def test_the_address_keeps_the_two(self, page: Page, visitor: Visitor) -> None:
        self.choose(page, "fisher", "uniform-mse")
        other = visitor.open()
        other.goto(page.url)
        assert self.shown(other) == self.shown(page)
        assert other.get_by_label("Method A").locator("option:checked").inner_text() == "fisher"
        page.reload()
        assert page.get_by_label("Method B").locator("option:checked").inner_text() == "uniform-mse"

    def test_each_row_leads_to_its_cell(self, page: Page) -> None:
        link = page.locator("table#cells a").first
        model = link.inner_text()
        link.click()
        expect(page.locator("h1")).to_contain_text(model)


class TestLayers:
    """What was chosen in each layer, and two strategies side by side."""

    @pytest.fixture
    def page(self, visitor: Visitor, site: Path) -> Page:
        return visitor.open(page_of(site, "layers"))

    def compared(self, page: Page) -> list[tuple[str, ...]]:
        return [tuple(row[:6]) for row in page.locator("table#strategies").evaluate(ROWS)]

    def expected(self, a: Record, b: Record) -> list[tuple[str, ...]]:
        words = {
            (False, False): "nothing",
            (True, False): "weights",
            (False, True): "activations",
            (True, True): "both",
        }
        rows = []
        for layer in LAYERS:
            one, two = (a.strategy or {})[layer], (b.strategy or {})[layer]
            differs = words[one.weight != two.weight, one.activation != two.activation]
            rows.append((layer, differs, one.weight, two.weight, one.activation, two.activation))
        return rows

    def test_any_two_strategies_can_be_compared(self, page: Page, runs: dict[tuple[str, int | None], Record]) -> None:
        names = {"dqss, seed 1": ("dqss", 1), "fisher": ("fisher", None), "best-uniform": ("best-uniform", None)}
        for a, b in (("dqss, seed 1", "fisher"), ("best-uniform", "dqss, seed 1"), ("fisher", "fisher")):
            page.locator("select[name=a]").select_option(label=a)
            page.locator("select[name=b]").select_option(label=b)
            expected = self.expected(runs[names[a]], runs[names[b]])
            assert self.compared(page) == expected
            differing = sum(row[1] != "nothing" for row in expected)
            expect(page.locator("#difference")).to_contain_text(f"differ in {differing} of {len(LAYERS)} layers")

    def test_the_address_keeps_the_two(self, page: Page, visitor: Visitor) -> None:
        page.locator("select[name=a]").select_option(label="fisher")
        other = visitor.open()
        other.goto(page.url)
        assert self.compared(other) == self.compared(page)
        assert other.locator("select[name=a] option:checked").inner_text() == "fisher"

    def test_a_seed_is_shown_at_a_time_and_kept_in_the_address(self, page: Page) -> None:
        seeds = page.locator("#seeds > *")
        assert [seeds.nth(i).is_visible() for i in range(seeds.count())] == [True, False]
        page.locator("select[name=seed]").select_option("1")
        assert [seeds.nth(i).is_visible() for i in range(seeds.count())] == [False, True]
        page.reload()
        assert [seeds.nth(i).is_visible() for i in range(seeds.count())] == [False, True]

    def test_alpha_stands_at_its_layer_and_candidate(
        self, page: Page, runs: dict[tuple[str, int | None], Record]
    ) -> None:
        rows = page.locator("#seeds > *").first.locator("table").first.evaluate(ROWS)
        facts = runs["dqss", 0].layers or {}
        assert [row[0] for row in rows] == list(LAYERS)
        for row in rows:
            alpha = [*(facts[row[0]].alpha_weight or []), *(facts[row[0]].alpha_activation or [])]
            texts = " ".join(row).split()
            assert len(alpha) == 2 * len(PTQ)
            for share in alpha:
                assert f"{share:.2f}" in texts, row
