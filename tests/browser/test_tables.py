"""A board's table in use: sorted, filtered, searched, kept in the address and saved, against the records themselves."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from benchmarks.records import write_record
from leaderboard.build import build_site
from tests.browser.harness import Visitor, Watch, all_pages
from tests.browser.sample import BITS, IMAGES, MISSING, MODELS, PTQ, mean_scores
from tests.leaderboard.conftest import make_record

METHODS = (*(f"uniform-{name}" for name in PTQ), "best-uniform", "random", "fisher", "dqss")
# The first line of each cell, small print left out, of the rows that are shown.
ROWS = """(table) => [...table.tBodies].flatMap((body) => [...body.rows]).filter((row) => row.checkVisibility())
    .map((row) => [...row.cells].map((cell) => cell.innerText.trim().split("\\n")[0].trim()))"""
HEADS = "(table) => [...table.tHead.rows[0].cells].map((cell) => cell.innerText.trim())"
TABLE = "table#rows"


@pytest.fixture
def board(visitor: Visitor, site: Path) -> Page:
    """The board of the classification suite."""
    return visitor.open(board_path(site))


def board_path(site: Path) -> str:
    (path,) = [path for path in all_pages(site) if path.startswith("boards/classification-")]
    return path


def rows_of(page: Page, table: str = TABLE) -> list[list[str]]:
    return page.locator(table).evaluate(ROWS)


def column_of(page: Page, title: str) -> int:
    (found,) = [i for i, head in enumerate(page.locator(TABLE).evaluate(HEADS)) if head.startswith(title)]
    return found


def column(page: Page, title: str) -> list[str]:
    at = column_of(page, title)
    return [row[at] for row in rows_of(page)]


def number(text: str) -> float | None:
    """Return what a cell says, None for a dash or words."""
    plain = text.replace("\N{MINUS SIGN}", "-").replace(",", "")
    return float(plain) if re.fullmatch(r"[+-]?\d+(\.\d+)?", plain) else None


def sort_by(page: Page, title: str, key: str | None = None) -> str | None:
    """Click on a heading, or press a key there, and return how its column is then said to be sorted."""
    heading = page.locator(f"{TABLE} thead th").nth(column_of(page, title))
    before = heading.get_attribute("aria-sort")
    if key is None:
        heading.click()
    else:
        heading.locator("[tabindex='0']").press(key)
    # DataTables sorts a moment later.
    if before is None:
        expect(heading).to_have_attribute("aria-sort", re.compile("."))
    else:
        expect(heading).not_to_have_attribute("aria-sort", before)
    return heading.get_attribute("aria-sort")


def choose(page: Page, name: str, value: str) -> None:
    page.locator(f"select[data-filter={name}]").select_option(value)


def saved(page: Page, label: str, scope: str = TABLE) -> tuple[str, str]:
    """Press a button of a table's tools and return name and text of the file."""
    tools = page.locator(f".tools:has(+ .scroll {scope})")
    with page.expect_download() as download:
        tools.get_by_role("button", name=label, exact=True).click()
    return download.value.suggested_filename, Path(download.value.path()).read_text(encoding="utf-8")


def test_every_cell_of_the_grid_has_a_row_with_its_score(board: Page) -> None:
    shown = {(row[0], row[1], row[2]): row[3] for row in rows_of(board)}
    grid = {(method, model, bits) for method in METHODS for model in MODELS for bits in BITS}
    assert shown.keys() == grid
    known = mean_scores()
    assert shown == {names: f"{known[names]:.2f}" if names in known else "\N{EN DASH}" for names in grid}
    assert (MISSING[2], *MISSING[:2]) not in known


@pytest.mark.parametrize("title", ["Top-1", "Gap to full precision", "Gain", "Search"])
def test_a_click_on_a_heading_sorts_numbers_by_value_and_what_is_none_never_comes_first(
    board: Page, title: str
) -> None:
    before = sorted(column(board, title))
    directions = []
    for _ in range(2):
        directions.append(sort_by(board, title))
        assert sorted(column(board, title)) == before
        values = [value for text in column(board, title) if (value := number(text)) is not None]
        assert values == sorted(values, reverse=directions[-1] == "descending")
        assert len(values) > 20
    assert sorted(filter(None, directions)) == ["ascending", "descending"]
    while sort_by(board, title) != ("ascending" if title == "Search" else "descending"):
        pass  # of searches the quickest is the best
    best_first = column(board, title)
    assert number(best_first[0]) is not None
    assert number(best_first[-1]) is None


def test_names_with_numbers_in_them_sort_and_each_heading_alone_is_sorted(board: Page) -> None:
    sort_by(board, "Top-1")
    sort_by(board, "Method")
    assert column(board, "Method") == sorted(column(board, "Method"))
    sorted_by = board.locator(f"{TABLE} thead th[aria-sort]")
    assert sorted_by.count() == 1
    assert sorted_by.inner_text().startswith("Method")


def test_enter_on_a_heading_sorts_as_a_click_does(board: Page) -> None:
    seen = [(sort_by(board, "Top-1", "Enter"), column(board, "Top-1")) for _ in range(2)]
    assert {direction for direction, _ in seen} == {"ascending", "descending"}
    assert seen[0][1] == seen[1][1][::-1]


def test_filters_keep_the_rows_of_what_was_chosen_alone(board: Page) -> None:
    choose(board, "model", "resnet8")
    assert set(column(board, "Model")) == {"resnet8"}
    assert len(rows_of(board)) == len(METHODS) * len(BITS)
    choose(board, "bits", "W4A4")
    assert {tuple(row[:3]) for row in rows_of(board)} == {(method, "resnet8", "W4A4") for method in METHODS}
    choose(board, "method", "uniform-mse")
    assert [row[:3] for row in rows_of(board)] == [["uniform-mse", "resnet8", "W4A4"]]
    for name in ("model", "bits", "method"):
        choose(board, name, "")
    assert len(rows_of(board)) == len(METHODS) * len(MODELS) * len(BITS)


def test_the_states_that_never_win_can_be_found(board: Page) -> None:
    for state in ("failed", "skipped", "missing"):
        choose(board, "state", state)
        assert column(board, "State") == [state]
    choose(board, "state", "missing")
    assert rows_of(board)[0][:3] == [MISSING[2], *MISSING[:2]]


def test_the_search_box_finds_words_anywhere_in_a_row(board: Page) -> None:
    search = board.locator(f".tools:has(+ .scroll {TABLE}) input[type=search]")
    search.fill("fisher")
    assert set(column(board, "Method")) == {"fisher"}
    assert len(rows_of(board)) == len(MODELS) * len(BITS)
    search.fill("fisher resnet20")
    assert {tuple(row[:2]) for row in rows_of(board)} == {("fisher", "resnet20")}
    search.fill("no such thing")
    assert board.locator(TABLE).inner_text().count("resnet") == 0
    search.fill("")
    assert len(rows_of(board)) == len(METHODS) * len(MODELS) * len(BITS)


def test_the_address_keeps_the_state_for_a_reload_and_for_others(board: Page, visitor: Visitor) -> None:
    choose(board, "bits", "W3A3")
    choose(board, "model", "mobilenetv2-small")
    board.locator(f".tools:has(+ .scroll {TABLE}) input[type=search]").fill("uniform")
    sort_by(board, "Top-1")
    rows, address = rows_of(board), board.url
    assert len(rows) == len(PTQ) + 1
    assert address.startswith(f"{visitor.site.as_uri()}/boards/")
    board.reload()
    assert rows_of(board) == rows
    other = visitor.open()
    other.goto(address)
    assert rows_of(other) == rows
    assert other.locator("select[data-filter=bits]").input_value() == "W3A3"
    assert other.locator(f".tools:has(+ .scroll {TABLE}) input[type=search]").input_value() == "uniform"
    assert other.locator(f"{TABLE} thead th[aria-sort]").count() == 1


def test_back_to_nothing_chosen_leaves_a_plain_address(board: Page) -> None:
    plain, rows = board.url, rows_of(board)
    choose(board, "bits", "W3A3")
    assert board.url != plain
    choose(board, "bits", "")
    assert board.url == plain
    assert rows_of(board) == rows
    while sort_by(board, "Top-1") is not None:
        assert board.url != plain
    assert board.url == plain
    assert rows_of(board) == rows


def test_another_state_in_the_address_of_the_open_page_is_shown(board: Page) -> None:
    with board.expect_navigation(wait_until="load"):
        board.evaluate("location.hash = '#?rows.bits=W3A3'")
    assert set(column(board, "Bits")) == {"W3A3"}


def test_an_address_that_makes_no_sense_still_gives_the_table_and_its_tools(visitor: Visitor, site: Path) -> None:
    page = visitor.open()
    for state in (
        "rows.sort=99-asc",
        "rows.sort=x",
        "rows.bits=W9A9",
        "rows.search=%E0%A4",
        "",
        "<script>",
        "none.x=1",
    ):
        page.goto("about:blank")  # to another anchor of the same page a browser only scrolls
        page.goto(visitor.address(f"{board_path(site)}#?{state}"))
        search = page.locator(f".tools:has(+ .scroll {TABLE}) input[type=search]")
        assert search.count() == 1, state
        search.fill("")
        assert len(rows_of(page)) == len(METHODS) * len(MODELS) * len(BITS), state


class TestSaving:
    """The rows shown, in their order; numbers as programs read them."""

    @pytest.fixture
    def chosen(self, board: Page) -> Page:
        choose(board, "bits", "W3A3")
        choose(board, "model", "resnet8")
        sort_by(board, "Top-1")
        return board

    @pytest.fixture
    def expected(self, chosen: Page) -> list[tuple[str, float | None]]:
        known = mean_scores()
        names = [row[0] for row in rows_of(chosen)]
        assert len(names) == len(METHODS)
        return [(name, known.get((name, "resnet8", "W3A3"))) for name in names]

    def test_csv(self, chosen: Page, expected: list[tuple[str, float | None]]) -> None:
        name, text = saved(chosen, "CSV")
        assert name.endswith(".csv")
        head, *rows = csv.reader(io.StringIO(text))
        assert head[:3] == ["Method", "Model", "Bits"]
        assert {len(row) for row in rows} == {len(head)}
        found = [(row[0], float(row[3]) if row[3] else None) for row in rows]
        assert found == [
            (name, score if score is None else pytest.approx(score, abs=0.005)) for name, score in expected
        ]

    def test_json(self, chosen: Page, expected: list[tuple[str, float | None]]) -> None:
        name, text = saved(chosen, "JSON")
        assert name.endswith(".json")
        rows = json.loads(text)
        found = [(row["Method"], row["Top-1 (%)"]) for row in rows]
        assert found == [
            (name, score if score is None else pytest.approx(score, abs=0.005)) for name, score in expected
        ]
        assert {row["Bits"] for row in rows} == {"W3A3"}

    def test_markdown(self, chosen: Page, expected: list[tuple[str, float | None]]) -> None:
        name, text = saved(chosen, "Markdown")
        assert name.endswith(".md")
        head, rule, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]
        assert head[:3] == ["Method", "Model", "Bits"]
        assert set(rule) == {"---"}
        assert {len(row) for row in rows} == {len(head)}
        assert [row[0] for row in rows] == [name for name, _ in expected]
        assert [number(row[3]) for row in rows] == [None if s is None else round(s, 2) for _, s in expected]

    def test_latex(self, chosen: Page, expected: list[tuple[str, float | None]]) -> None:
        name, text = saved(chosen, "LaTeX")
        assert name.endswith(".tex")
        assert text.startswith("\\begin{tabular}{")
        assert text.rstrip().endswith("\\end{tabular}")
        head, *rows = [line.removesuffix(" \\\\").split(" & ") for line in text.splitlines() if line.endswith("\\\\")]
        gap = next(i for i, title in enumerate(head) if title.startswith("Gap"))
        signs = {row[gap][:3] for row in rows if row[gap] != "--"}
        assert "$-$" in signs
        assert not any("$" in row[gap].removeprefix("$-$") for row in rows)
        assert "Top-1 (\\%)" in head
        assert {len(row) for row in rows} == {len(head)}
        assert [(row[0], number(row[3])) for row in rows] == [
            (n, None if s is None else round(s, 2)) for n, s in expected
        ]


def test_a_board_says_how_many_images_its_numbers_are_of(board: Page) -> None:
    assert f"{IMAGES} test images" in board.locator("main").inner_text()


# Marks of HTML, of formulas in spreadsheets, of LaTeX and of Markdown.
HOSTILE = ("<img src=x onerror=alert(1)>", "=1+1", 'a"b,c', "50% & $x_1^2$ #{~}\\", "a|b `c` *d*")


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hostile")
    for name in HOSTILE:
        for method in ("best-uniform", "uniform-minmax", "dqss", name):
            write_record(folder / "results", make_record(method, [1, 0, 1, 1], model=name, seed=None))
    return build_site(folder / "results", folder / "site").parent.resolve()


@pytest.fixture
def table(browser: Browser, hostile: Path) -> Iterator[Page]:
    visitor = Visitor(browser, hostile, Watch(hostile))
    (path,) = [path for path in all_pages(hostile) if path.startswith("boards/")]
    yield visitor.open(path)
    visitor.close()
    visitor.watch.verify()


class TestHostileNames:
    """Names in records are words, in the page and in what it saves."""

    def test_pages_show_them_and_run_nothing(self, browser: Browser, hostile: Path) -> None:
        visitor = Visitor(browser, hostile, Watch(hostile))
        page = visitor.open()
        dialogs: list[str] = []
        page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
        for path in all_pages(hostile):
            page.goto(visitor.address(path))
        visitor.close()
        visitor.watch.verify()
        assert dialogs == []

    def test_filters_and_search_find_them(self, table: Page) -> None:
        for name in HOSTILE:
            choose(table, "model", name)
            assert set(column(table, "Model")) == {name}
            assert len(rows_of(table)) == 3 + len(HOSTILE)
        choose(table, "model", "")

    def test_saved_tables_hold_them_as_they_are(self, table: Page) -> None:
        _, text = saved(table, "JSON")
        assert {row["Model"] for row in json.loads(text)} == set(HOSTILE)
        _, text = saved(table, "CSV")
        models = {row[1] for row in csv.reader(io.StringIO(text))} - {"Model"}
        # A spreadsheet would work a formula out.
        assert models == {name if name != "=1+1" else "'=1+1" for name in HOSTILE}

    def test_latex_has_no_mark_that_is_not_escaped(self, table: Page) -> None:
        _, text = saved(table, "LaTeX")
        rows = [line.removesuffix(" \\\\") for line in text.splitlines() if line.endswith(" \\\\")]
        columns = {len(row.split(" & ")) for row in rows}
        assert len(columns) == 1
        plain = "50\\% \\& \\$x\\_1\\textasciicircum{}2\\$ \\#\\{\\textasciitilde{}\\}\\textbackslash{}"
        assert any(plain in row for row in rows)

    def test_markdown_rows_have_as_many_cells_as_the_head(self, table: Page) -> None:
        _, text = saved(table, "Markdown")
        counts = {len(re.findall(r"(?<!\\)\|", line)) for line in text.splitlines()}
        assert len(counts) == 1
        assert "<img" not in text
