"""The site as a browser gets it: parsed, not searched by eye."""

from __future__ import annotations

import base64
import io
import re
import subprocess
import sys
from pathlib import Path

import PIL.Image
import pytest

from benchmarks.records import Picture, Pictures
from leaderboard.build import FOLDERS, BoardError, build_site
from tests.leaderboard.reading import Reader

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\" onload='x'"
GOOD, FAIR = [1] * 90 + [0] * 10, [1] * 80 + [0] * 20
CHOICES = {"stem.conv": ("mse", "minmax"), "fc": ("minmax", "mse")}


def png(grey: int) -> bytes:
    file = io.BytesIO()
    PIL.Image.new("L", (2, 2), grey).save(file, "PNG")
    return file.getvalue()


def pictures(grey: int, caption: str = "a corner", original: int = 0, bicubic: int = 1) -> Pictures:
    """An output of this grey beside an original and a bicubic image."""
    references = {"original": Picture.of(png(original)), "bicubic": Picture.of(png(bicubic), png(2))}
    return Pictures(caption=caption, references=references, output=Picture.of(png(grey), png(grey + 1)))


def one_of(pages: dict[str, Path], beginning: str) -> Path:
    """Return the one page whose path begins so."""
    (found,) = (path for name, path in pages.items() if name.startswith(beginning))
    return found


def site_of(results: Path) -> dict[str, Path]:
    index = build_site(results, results / "site")
    return {path.relative_to(index.parent).as_posix(): path for path in sorted(index.parent.rglob("*.html"))}


@pytest.fixture
def results(tmp_path, cell):
    for suite in ("classification", "quickstart"):
        cell("best-uniform", FAIR, suite=suite, strategy={"stem.conv": ("mse", "mse"), "fc": ("mse", "mse")})
        cell("uniform-minmax", None, suite=suite, status="failed", reason=HOSTILE)
        for seed in (0, 1):
            cell("dqss", GOOD, suite=suite, seed=seed, strategy=CHOICES, alpha=[0.25, 0.75])
    shown = {"model": HOSTILE, "bits": "W4A8", "protocol": "../" + HOSTILE, "pictures": pictures(9, HOSTILE)}
    cell("dqss", GOOD, suite="classification", strategy=CHOICES, **shown)
    return tmp_path


def test_the_first_page_shows_the_gain_with_n_seeds_protocol_and_what_the_interval_is(results):
    pages = site_of(results)
    words = Reader(pages["index.html"]).words()
    assert "+10.00 points" in words
    assert "n = 100 test images" in words
    assert "seeds 0 and 1" in words
    assert "Protocol all-layers: weights symmetric per-tensor; activations affine per-tensor" in words
    assert "classification: fashion-mnist, PTQ, protocol all-layers Suite classification, version 1." in words
    assert "quickstart: fashion-mnist" in words
    about = Reader(pages["about.html"]).words()
    assert "Paired bootstrap over the test images, and over the seeds where a method has several" in about
    assert "all-layers weights symmetric per-tensor; activations affine per-tensor" in about


def test_protocols_that_share_a_name_have_pages_of_their_own(tmp_path, cell):
    for bits, ends in (("W4A4", None), ("W8A8", 8)):
        cell("best-uniform", FAIR, bits=bits, first_last_bits=ends)
        cell("dqss", GOOD, bits=bits, first_last_bits=ends, seed=0)
    pages = site_of(tmp_path)
    boards = [Reader(path).words() for name, path in pages.items() if name.startswith("boards/")]
    assert len(boards) == 2
    (narrow,) = (words for words in boards if "like all others" in words)
    (wide,) = (words for words in boards if "first and last layer at 8 bits" in words)
    assert "W8A8" not in narrow
    assert "W4A4" not in wide
    assert len(set(re.findall(r"protocol all-layers \([0-9a-f]{4}\)", narrow + wide))) == 2


def test_a_loss_is_said_to_be_one(tmp_path, cell):
    cell("best-uniform", GOOD)
    cell("dqss", FAIR, seed=0)
    pages = site_of(tmp_path)
    assert "0 wins, 0 ties, 1 loss in 1 model" in Reader(pages["index.html"]).words()
    assert "\N{MINUS SIGN}10.00 loss best: best-uniform" in Reader(pages["index.html"]).words()
    words = Reader(one_of(pages, "cells/")).words()
    assert "DQSS loses to the best uniform pair: \N{MINUS SIGN}10.00 points." in words


def test_a_stronger_rival_than_the_bar_is_named(tmp_path, cell):
    cell("best-uniform", FAIR)
    cell("dqss", FAIR, seed=0)
    cell("uniform-minmax", GOOD)
    words = Reader(one_of(site_of(tmp_path), "cells/")).words()
    assert "The strongest rival, uniform-minmax, scores +10.00 points higher." in words


def test_dqss_that_failed_wins_nothing_and_says_why(tmp_path, cell):
    cell("best-uniform", FAIR)
    cell("dqss", None, seed=0, status="failed", reason="it ran out of memory")
    pages = site_of(tmp_path)
    assert "Not judged, not complete: resnet8" in Reader(pages["index.html"]).words()
    words = Reader(one_of(pages, "cells/")).words()
    assert "DQSS has no complete result here (failed), so it wins nothing." in words
    assert "failed: it ran out of memory" in words


def test_seeds_that_not_every_board_has_are_said_to_be_so(tmp_path, cell):
    for bits, seeds in (("W4A4", (0, 1)), ("W8A8", (0,))):
        cell("best-uniform", FAIR, bits=bits)
        for seed in seeds:
            cell("dqss", GOOD, bits=bits, seed=seed)
    pages = site_of(tmp_path)
    assert "seeds 0 and 1, not all of them in every cell." in Reader(pages["index.html"]).words()
    words = Reader(one_of(pages, "cells/demo-fashion-mnist-resnet8-w8a8")).words()
    assert "n = 100 test images, seed 0. Best score first." in words
    assert "incomplete:" not in words


def test_hostile_words_are_text_on_every_page_and_never_leave_the_site(results):
    pages = site_of(results)
    folders = {"site", "boards", "cells", "models", "methods", "layers", "pareto", "compare", "pictures"}
    assert {path.parent.name for path in pages.values()} == folders
    for path in pages.values():
        reader = Reader(path)
        assert not {"iframe", "object", "form"} & {tag for tag, _ in reader.elements}
        sources = [str(found["src"]) for tag, found in reader.elements if tag == "img"]
        assert all(re.fullmatch("data:image/png;base64,[A-Za-z0-9+/=]+", source) for source in sources)
        assert not any(name.startswith("on") or name == "style" for _, found in reader.elements for name in found)
    assert f"failed: {HOSTILE}" in Reader(one_of(pages, "cells/quickstart-")).words()


def test_a_page_loads_nothing_but_the_sites_assets_and_its_policy_allows_no_more(results):
    for path in site_of(results).values():
        reader = Reader(path)
        policy = next(str(found["content"]) for tag, found in reader.elements if found.get("http-equiv"))
        allowed = {name: set(rest) for name, *rest in (part.split() for part in policy.split(";"))}
        assert allowed["default-src"] == allowed["base-uri"] == allowed["form-action"] == {"'none'"}
        assert allowed["script-src"] == allowed["style-src"] == {"'self'", "file:"}
        for tag, found in reader.elements:
            source = found.pop("src", None) or (found.pop("href") if tag == "link" else None)
            if tag == "img":
                assert str(source).startswith("data:image/png;base64,")
            elif source is not None:
                assert (path.parent / source).resolve().parent == results / "site" / "assets"
                assert (path.parent / source).is_file()
            assert not {"srcset", "data", "action", "xlink:href"} & set(found)
    # DataTables names its own site in comments and in what it tells developers; it asks for nothing from there.
    for name in ("style.css", "site.js"):
        text = (results / "site" / "assets" / name).read_text()
        assert not re.search(r"url\(|@import|fetch\(|XMLHttpRequest|innerHTML|https?://(?!www\.w3\.org/2000/svg)", text)


def test_every_link_leads_to_an_anchor_that_is_there(results):
    pages = site_of(results)
    anchors = {path.resolve(): [found.get("id") for _, found in Reader(path).elements] for path in pages.values()}
    for path, ids in anchors.items():
        known = [one for one in ids if one]
        assert len(known) == len(set(known))
        for tag, found in Reader(path).elements:
            if tag == "a":
                target, _, anchor = str(found["href"]).partition("#")
                there = (path.parent / target).resolve() if target else path
                assert there in anchors or (there.suffix == ".json" and there.is_file())
                assert not anchor or anchor in anchors[there]


def test_every_file_of_outcomes_is_linked_from_its_cell(results, cell):
    # Without a bar there is no gain, but there are outcomes.
    cell("dqss", GOOD, suite="alone", seed=0)
    pages = site_of(results)
    files = {path.relative_to(results / "site").as_posix() for path in (results / "site" / "outcomes").iterdir()}
    links = {
        str(found.get("href")).removeprefix("../")
        for name, path in pages.items()
        if name.startswith("cells/")
        for tag, found in Reader(path).elements
        if tag == "a" and "outcomes/" in str(found.get("href"))
    }
    assert links == files
    assert any("alone" in name for name in files)


def test_tables_have_captions_and_scoped_headers(results):
    for path in site_of(results).values():
        tags = [tag for tag, _ in Reader(path).elements]
        assert tags.count("table") == tags.count("caption")
        assert all("scope" in found for tag, found in Reader(path).elements if tag == "th")


def test_pictures_show_the_references_and_all_methods_with_their_errors(tmp_path, cell):
    cell("uniform-minmax", [1.0, 2.0], pictures=pictures(10))
    cell("best-uniform", [1.0, 3.0], pictures=pictures(20))
    # Another machine may round the references otherwise.
    cell("dqss", [2.0, 3.0], pictures=pictures(30, bicubic=3), seed=0)
    cell("dqss", [2.0, 3.0], pictures=pictures(40), seed=1)
    cell("random", [2.0, 2.0], pictures=pictures(50, "another corner"), seed=0)
    cell("greedy-sqnr", [0.5, 1.0], pictures=pictures(60, original=7))
    pages = site_of(tmp_path)

    def shown(page: Path) -> list[tuple[str | None, int]]:
        """What the page calls each image, and its grey."""
        images = [found for tag, found in Reader(page).elements if tag == "img"]
        contents = [base64.b64decode(str(found["src"]).split(",")[1]) for found in images]
        greys = [PIL.Image.open(io.BytesIO(content)).getpixel((0, 0)) for content in contents]
        return [(found["alt"], grey) for found, grey in zip(images, greys, strict=True)]

    (path,) = (path for name, path in pages.items() if name.startswith("pictures/"))
    # The best score first, as on the board; what shows another part of the image, or another image, is left out.
    assert shown(path) == [
        ("original", 0), ("bicubic", 3), ("dqss", 30), ("best-uniform", 20), ("uniform-minmax", 10),
        ("error of bicubic", 2), ("error of dqss", 31), ("error of best-uniform", 21), ("error of uniform-minmax", 11),
    ]  # fmt: skip
    assert "a corner" in Reader(path).words()
    assert "another corner" not in Reader(path).words()


def test_pictures_of_other_methods_alone_are_linked_from_the_board(tmp_path, cell):
    cell("best-uniform", FAIR)
    cell("uniform-minmax", GOOD, pictures=pictures(10))
    pages = site_of(tmp_path)
    (name,) = (name for name in pages if name.startswith("pictures/"))
    reader = Reader(one_of(pages, "cells/"))
    assert f"../{name}" in [found.get("href") for tag, found in reader.elements if tag == "a"]
    assert "img" not in [tag for tag, _ in reader.elements]


def test_what_is_no_png_file_is_no_picture():
    with pytest.raises(ValueError, match="not a PNG file"):
        Picture.of(b"<svg onload=alert(1)>")
    with pytest.raises(ValueError, match="base64"):
        Picture(image='"><script>')


def test_the_command_of_a_cell_is_quoted_for_the_shell(results):
    pages = site_of(results)
    words = Reader(one_of(pages, "cells/quickstart-")).text
    assert (
        "dqss-bench run quickstart --only model=resnet8,bits=W4A4,method=dqss,mode=ptq --seeds 1 --out again" in words
    )
    assert "--only 'model=<script>" in Reader(one_of(pages, "cells/classification-fashion-mnist-script")).text


def test_the_same_records_give_the_same_bytes_wherever_they_lie(results, tmp_path_factory):
    bad = next((results / "quickstart").glob("*.json"))
    bad.write_text("{}")
    first = {name: path.read_bytes() for name, path in site_of(results).items()}
    moved = tmp_path_factory.mktemp("elsewhere") / "moved"
    results.rename(moved)
    again = {name: path.read_bytes() for name, path in site_of(moved).items()}
    moved.rename(results)
    assert first == again
    assert b"1 file</a> among the results cannot be trusted" in first["index.html"]
    assert f"quickstart/{bad.name}: not a record".encode() in first["index.html"]


def test_a_later_build_takes_away_its_own_stale_pages_and_no_other_file(results, cell):
    before = site_of(results)
    (results / "site" / "layers" / "mine.html").write_text("<p>a page of somebody else</p>")
    for path in (results / "quickstart").glob("*.json"):
        path.unlink()
    after = site_of(results)
    assert any(name.startswith("layers/quickstart-") for name in before)
    assert not any(name.startswith("layers/quickstart-") for name in after)
    assert "layers/mine.html" in after
    assert any(name.startswith("pictures/") for name in after)
    for path in (results / "classification").glob("*.json"):
        if '"pictures": {' in path.read_text():
            path.unlink()
    cell("dqss", GOOD)
    assert not any(name.startswith("pictures/") for name in site_of(results))


def test_a_site_in_a_folder_of_another_site_is_left_alone(results):
    build_site(results, results / "site" / "v1")
    before = sorted((results / "site" / "v1").rglob("*"))
    site_of(results)
    assert sorted((results / "site" / "v1").rglob("*")) == before
    assert results / "site" / "v1" / "about.html" in before


def test_every_folder_of_pages_is_swept(results):
    site_of(results)
    site = results / "site"
    there = {path.parent.name for path in site.rglob("*.html") if path.parent != site}
    assert there == set(FOLDERS)


def test_what_is_no_file_does_not_end_a_build(results):
    (results / "site" / "notes.html").mkdir(parents=True)
    (results / "site" / "cells").mkdir()
    (results / "site" / "cells" / "gone.html").symlink_to("nowhere")
    assert "index.html" in site_of(results)
    assert (results / "site" / "notes.html").is_dir()


def test_without_records_the_message_says_what_to_do(tmp_path, cell):
    with pytest.raises(BoardError, match=r"no folder .* Run a suite first: dqss-bench run quickstart --out"):
        build_site(tmp_path / "none", tmp_path / "site")
    with pytest.raises(BoardError, match="no readable record"):
        build_site(tmp_path, tmp_path / "site")
    path = cell("dqss", GOOD)
    path.write_text("broken")
    with pytest.raises(BoardError, match=rf"Files that do not count:\n  demo/{path.name}"):
        build_site(tmp_path, tmp_path / "site")
    assert not (tmp_path / "site").exists()


def test_a_results_folder_of_failures_alone_still_makes_a_page(tmp_path, cell):
    cell("best-uniform", None, status="skipped", reason="no data")
    cell("dqss", None, status="skipped", reason="no data")
    assert "skipped: no data" in Reader(one_of(site_of(tmp_path), "cells/")).words()


def test_the_leaderboard_needs_no_torch():
    code = "import sys, leaderboard.build; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=False).returncode == 0


def test_training_is_shown_apart_with_the_name_of_its_bar_and_its_budget(tmp_path, cell):
    cell("best-uniform", [1] * 10 + [0] * 90)
    cell("dqss", FAIR, seed=0)
    training = {"mode": "qat", "seed": 0, "training": {"epochs": 2, "batch_size": 64, "distillation": 0.0}}
    cell("uniform-lsq", FAIR, validation=80.0, **training)
    cell("uniform-dsq", FAIR, validation=70.0, **training)
    cell("dqss", GOOD, validation=85.5, **training)
    site = site_of(tmp_path)
    words = Reader(site["index.html"]).words()
    assert "demo: fashion-mnist, QAT, protocol all-layers" in words
    assert "Every method trains 2 epochs in batches of 64." in words
    trained = Reader(one_of(site, "cells/demo-fashion-mnist-resnet8-w4a4-qat")).words()
    assert "DQSS beats the best uniform algorithm (lsq): +10.00 points." in trained
    assert "Training (s)" in trained
    assert "method=dqss,mode=qat --seeds 0" in trained
    searched = Reader(one_of(site, "cells/demo-fashion-mnist-resnet8-w4a4-ptq")).words()
    assert "DQSS beats the best uniform pair: +70.00 points." in searched


def test_training_without_a_bar_says_so(tmp_path, cell):
    cell("uniform-lsq", None, mode="qat", seed=0, status="failed", reason="loss: nan in step 3")
    cell("dqss", GOOD, mode="qat", seed=0, validation=85.5, strategy=CHOICES)
    words = Reader(one_of(site_of(tmp_path), "cells/")).words()
    assert "No uniform method is complete here, so there is no bar." in words
    assert "loss: nan in step 3" in words
    site = site_of(tmp_path)
    assert (
        "No gain to report: dqss is complete, no uniform method is complete here."
        in Reader(one_of(site, "layers/")).words()
    )
    board = Reader(one_of(site, "boards/")).words()
    assert "no uniform method is complete here" in board
    assert "best uniform algorithm is missing" not in board


def test_other_candidates_than_the_bars_are_told_where_a_gain_would_be(tmp_path, cell):
    cell("best-uniform", FAIR)
    cell("dqss", GOOD, seed=0, quantizers=["minmax", "kl"], strategy=CHOICES)
    pages = site_of(tmp_path)
    told = "dqss chose among other candidates than best-uniform"
    assert told in Reader(one_of(pages, "boards/")).words()
    assert f"No gain to report: {told}." in Reader(one_of(pages, "layers/")).words()
    assert "+10.00" not in Reader(one_of(pages, "cells/")).words()
