import os
import random
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from benchmarks.suite import SuiteError, load_suite, shipped_suites
from benchmarks.yaml_lines import MAX_BYTES, DocumentError, read_document

PLAIN = """\
# a comment
name: x
list: [1, 2.5,
  yes]
deep:
  - a: null
  - 'two
    lines'
"""

BROKEN = {
    "empty": (b"", "the file is empty.", None),
    "comments only": (b"# nothing\n", "the file is empty.", None),
    "two documents": (b"a: 1\n---\nb: 1\n", "a second document begins here. Keep one to a file.", 2),
    "not UTF-8": (b"a: 1\nb: \xff\n", "not UTF-8 text. Save it in that encoding.", 2),
    "UTF-16": ("a: 1".encode("utf-16"), "not UTF-8 text. Save it in that encoding.", 1),
    "control character": (b"a: 1\nb: \x00\n", "the character U+0000 is not allowed. Delete it.", 2),
    "open bracket": (
        b"a: [1, 2\nb: 3\n",
        "not YAML: expected ',' or ']', but got ':'. Check quotes, brackets, colons and indentation.",
        2,
    ),
    "tab": (
        b"a:\n\tb: 1\n",
        "not YAML: found character '\\t' that cannot start any token. Check quotes, brackets, colons and indentation.",
        2,
    ),
    "Python object": (
        b"a: 1\nb: !!python/object/apply:os.system ['true']\n",
        "the tag '!!python/object/apply:os.system' is not allowed. Write a plain value.",
        2,
    ),
    "anchor": (b"a: &x 1\nb: *x\n", "anchors and aliases (& and *) are not allowed. Write the value out.", 1),
    "recursion": (b"\n&x [*x]\n", "anchors and aliases (& and *) are not allowed. Write the value out.", 2),
    "undefined alias": (b"a: 1\nb: *x\n", "anchors and aliases (& and *) are not allowed. Write the value out.", 2),
    "deep lists": (b"a:\n " + b"[" * 100_000, "nested more than 20 deep. Check the brackets.", 2),
    "deep mappings": (b"{a: " * 50_000, "nested more than 20 deep. Check the brackets.", 1),
    "deep blocks": (b"- " * 50_000, "nested more than 20 deep. Check the brackets.", 1),
    "large": (b"a: " + b"x" * MAX_BYTES, "larger than 1,000,000 bytes. Split it.", None),
}


def write(folder: Path, content: bytes) -> Path:
    path = folder / "file.yaml"
    path.write_bytes(content)
    return path


def test_values_are_those_of_safe_load_and_lines_those_of_the_file(tmp_path):
    document = read_document(write(tmp_path, PLAIN.encode()))
    assert document.value == yaml.safe_load(PLAIN)
    assert document.lines == {
        (): 2,
        ("name",): 2,
        ("list",): 3,
        ("list", 0): 3,
        ("list", 1): 3,
        ("list", 2): 4,
        ("deep",): 5,
        ("deep", 0): 6,
        ("deep", 0, "a"): 6,
        ("deep", 1): 7,
    }
    assert document.line(("deep", 0, "b", 3)) == 6


@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=["plain", "byte order mark"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"], ids=["LF", "CRLF"])
def test_lines_do_not_depend_on_how_the_editor_saves(mark, newline, tmp_path):
    document = read_document(write(tmp_path, (mark + "a: 1\nb: 2\n".replace("\n", newline)).encode()))
    assert document.value == {"a": 1, "b": 2}
    assert document.line(("b",)) == 2


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_file_is_refused_with_its_line(case, tmp_path):
    content, what, line = BROKEN[case]
    with pytest.raises(DocumentError) as caught:
        read_document(write(tmp_path, content))
    assert (caught.value.what, caught.value.line) == (what, line)


def test_a_path_that_is_no_readable_file_is_refused(tmp_path):
    for path, what in [
        (tmp_path, "this is a folder. Give a file."),
        (tmp_path / "absent.yaml", "no such file."),
        (tmp_path / ("x" * 5000), "cannot be read: File name too long."),
        (tmp_path / "nul\0.yaml", "cannot be read: embedded null byte."),
    ]:
        with pytest.raises(DocumentError) as caught:
            read_document(path)
        assert caught.value.what == what


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read every file")
def test_a_file_without_permission_is_refused(tmp_path):
    path = write(tmp_path, b"a: 1")
    path.chmod(0)
    with pytest.raises(DocumentError, match="Permission denied"):
        read_document(path)


def loads_or_says_why(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    try:
        load_suite(path)
    except SuiteError as error:
        message = str(error)
        assert message.startswith(str(path))
        assert len(message.splitlines()) == 1
        assert len(message) < len(str(path)) + 500


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz") / "suite.yaml"


SHIPPED = shipped_suites()["classification"].read_bytes()
KEYS = ["suite", "version", "task", "models", "bits", "protocol", "seeds", "ptq", "quantizers", "weight", "methods"]
WORDS = st.sampled_from([*KEYS, "resnet8", "dqss", "uniform", "uniform-mse", "mse", "all-layers", "symmetric", "steps"])
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.dates() | st.text(max_size=20) | WORDS
VALUES = st.recursive(
    SCALARS,
    lambda below: st.lists(below, max_size=4) | st.dictionaries(WORDS | SCALARS, below, max_size=4),
    max_leaves=12,
)


@settings(deadline=None, max_examples=150)
@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")))
@example(b"a: 1:59:59" + b":59" * 400 + b".5")
@example(b"a: 0b_")
@example(b"a: 0001-01-01 00:00:00 +23:59")
@example(b"a: 2001-12-14 21:59:43 -99:00")
@example(b"%YAML 9.9\n---\na: 1")
@example(b"? ")
def test_any_bytes_load_or_end_in_one_message(scratch, content):
    loads_or_says_why(scratch, content)


@settings(deadline=None, max_examples=150)
@given(st.dictionaries(st.sampled_from(KEYS[:8]), VALUES), st.booleans())
def test_any_values_under_the_right_keys_load_or_end_in_one_message(scratch, changed, flow):
    content = {**yaml.safe_load(SHIPPED), **changed}

    class Dumper(yaml.SafeDumper):
        def ignore_aliases(self, data):
            return True

    loads_or_says_why(scratch, yaml.dump(content, Dumper=Dumper, default_flow_style=flow, allow_unicode=True).encode())


@settings(deadline=None, max_examples=200)
@given(st.integers(0, 2**32))
def test_any_slip_of_the_hand_loads_or_ends_in_one_message(scratch, seed):
    hand = random.Random(seed)
    content = bytearray(SHIPPED)
    for _ in range(hand.randint(1, 3)):
        at = hand.randrange(len(content))
        content[at : at + hand.randint(0, 3)] = hand.choice(
            [b"", b":", b"-", b"\n", b" ", b"[", b"}", b"'", b"&", b"0"]
        )
    loads_or_says_why(scratch, bytes(content))
