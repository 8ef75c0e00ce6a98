"""Files that are no suites, one fault each, and what the program says of them, word for word.

They are in `bad_suites/`; `messages.txt` there has the message of each, `…` for names that tables may be given more of.
"""

import copy
import io
import random
import re
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import cli
from benchmarks.suite import Inventory, Lookup, shipped_suites

FOLDER = Path(__file__).parent / "bad_suites"
MESSAGES = (FOLDER / "messages.txt").read_text(encoding="utf-8").splitlines()
LONGEST_SECONDS = 2.0
"""Of the processor's time. Those here take milliseconds, but for the first that imports what checks options."""
LONGEST_MESSAGE = 600


def name_of(message):
    return message.partition(".yaml")[0]


def complaint(capsys, *given):
    """Return what a command that must fail says."""
    begun = time.process_time()
    code = cli.main([*map(str, given)])
    seconds = time.process_time() - begun
    out, err = capsys.readouterr()
    assert (code, out) == (2, "")
    assert err.endswith("\n")
    assert seconds < LONGEST_SECONDS
    (line,) = err.splitlines()
    assert len(line) < LONGEST_MESSAGE
    assert line.isprintable()
    return line


def test_each_file_has_one_message():
    assert sorted(path.stem for path in FOLDER.glob("*.yaml")) == sorted(map(name_of, MESSAGES))
    assert len(MESSAGES) >= 100


@pytest.mark.parametrize("message", MESSAGES, ids=name_of)
def test_a_bad_suite_ends_in_one_line_that_says_where_and_what(message, capsys, monkeypatch):
    monkeypatch.chdir(FOLDER)
    shown = complaint(capsys, "validate", f"{name_of(message)}.yaml")
    expected = ".+".join(re.escape(part) for part in message.split("…"))
    assert re.fullmatch(f"dqss-bench: {expected}", shown), shown


@pytest.mark.parametrize("command", ["run", "plan", "tune"])
@pytest.mark.parametrize("name", ["empty", "tab-indent", "models-unknown", "option-text"])
def test_no_command_does_anything_with_a_bad_suite(command, name, capsys, tmp_path):
    path, out = FOLDER / f"{name}.yaml", tmp_path / "out"
    assert complaint(capsys, command, path, "--out", out) == complaint(capsys, "validate", path)
    assert not out.exists()


SUITES = {name: yaml.safe_load(path.read_bytes()) for name, path in shipped_suites().items()}
ODD = [None, True, 0, -1, 2**70, 0.5, float("nan"), "", "x", "\0", "W4A4", "uniform", "dqss", [], {}, [[]], {"a": {}}]


class NoAliases(yaml.SafeDumper):
    def ignore_aliases(self, data):
        return True


def places(value, at=()):
    """Return the way to every value below the root."""
    below = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, each in below for place in ((*at, key), *places(each, (*at, key)))]


def change(content, hand):
    """Change one place of a suite's content: the value, its key, or where it stands."""
    spots = places(content)
    if not spots:
        return
    *path, last = hand.choice(spots)
    parent = content
    for step in path:
        parent = parent[step]
    match hand.randrange(5):
        case 0:
            parent[last] = copy.deepcopy(hand.choice(ODD))
        case 1:
            del parent[last]
        case 2:
            parent[last] = hand.choice([[parent[last]], {"dqss": parent[last]}, str(parent[last])])
        case 3 if isinstance(parent, dict):
            parent[hand.choice(["suite", "ptq", "weight", "steps", "W2A2", "x", last[::-1]])] = parent.pop(last)
        case 3:
            parent.append(copy.deepcopy(hand.choice(parent)))
        case _:
            parent[last] = copy.deepcopy(hand.choice([parent, content.get("bits"), content.get("models")]))


@settings(deadline=None, max_examples=200)
@given(st.sampled_from(sorted(SUITES)), st.integers(0, 2**32))
def test_a_good_suite_that_was_changed_is_good_or_ends_in_one_line(tmp_path_factory, name, seed):
    hand, content = random.Random(seed), copy.deepcopy(SUITES[name])
    for _ in range(hand.randint(1, 3)):
        change(content, hand)
    path = tmp_path_factory.getbasetemp() / "changed.yaml"
    path.write_text(yaml.dump(content, Dumper=NoAliases, allow_unicode=True), encoding="utf-8", newline="\n")
    err = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(io.StringIO()), redirect_stderr(err):
        patch.setattr(Inventory, "data", lambda self, task: Lookup("data", None))
        patch.setattr(Inventory, "training", lambda self, task: None)
        patch.setattr(Inventory, "checkpoint", lambda self, model, task: Lookup("checkpoint", None))
        code = cli.main(["validate", str(path)])
    lines = err.getvalue().splitlines()
    assert (code, len(lines)) in ((0, 0), (2, 1))
    for line in lines:
        assert line.startswith(f"dqss-bench: {path}")
        assert len(line) < LONGEST_MESSAGE + len(str(path))
