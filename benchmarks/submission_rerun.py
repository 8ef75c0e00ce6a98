"""Some cells of a submission, run again here and compared with what was submitted. Imports torch when it runs one."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence

from benchmarks.consistency import FULL_PRECISION_APART, Claim, strategy_hash
from benchmarks.records import Record, key_of
from benchmarks.submission_report import OTHER_STRATEGY_APART, SAME_STRATEGY_APART, Rerun
from benchmarks.suite import Cell, cells_of, load_suite, shipped_suites

RunCell = Callable[[Cell], Record]


def sample(claims: Sequence[Claim], count: int, seed: str) -> list[Claim]:
    """Return so many of the claims, or all where there are fewer; the same for the same claims and seed."""
    ordered = sorted(claims, key=lambda claim: claim.key)
    return random.Random(seed).sample(ordered, min(count, len(ordered)))


def run_again(claims: Sequence[Claim], run: RunCell) -> Iterator[Rerun]:
    """Yield how each claim, all ok, compares with its cell when it is run here."""
    for claim in claims:
        cell = shipped_cell(claim)
        missing = "no shipped suite has this cell" if cell is None else cell.skip_reason
        if cell is None or missing is not None:
            yield Rerun(claim.key, claim.score or 0.0, None, 0.0, f"cannot run here: {(missing or '').rstrip('.')}")
        else:
            yield compared(claim, run(cell))


def shipped_cell(claim: Claim) -> Cell | None:
    """Return the cell of a shipped suite that has the claim's key.

    No others are run: so no stranger's options decide what this machine does, and for how long.
    """
    path = shipped_suites().get(claim.suite)
    if path is None:
        return None
    cells = cells_of(load_suite(path), [claim.seed or 0])
    return next((cell for cell in cells if cell.method == claim.method and cell.key == claim.key), None)


def compared(claim: Claim, again: Record) -> Rerun:
    """Return how a claim that is ok compares with a record of the same cell."""
    assert claim.score is not None
    assert claim.full_precision_score is not None
    alike = claim.mode == "ptq" and claim.strategy == strategy_hash(again.strategy)
    tolerance = (SAME_STRATEGY_APART if alike else OTHER_STRATEGY_APART)[claim.unit]
    if again.score is None or again.full_precision_score is None:
        return Rerun(claim.key, claim.score, None, tolerance, f"did not end well here: {again.reason}")
    faults = []
    if abs(claim.score - again.score) > tolerance:
        faults.append(f"its score {claim.score:g} is {again.score:g} here, more than {tolerance:g} {claim.unit} apart")
    if abs(claim.full_precision_score - again.full_precision_score) > FULL_PRECISION_APART[claim.unit]:
        faults.append(f"full precision {claim.full_precision_score:g} is {again.full_precision_score:g} here")
    told = {"size_bytes": claim.size_bytes, "bops": claim.bops, "ids": claim.ids}
    here = {"size_bytes": again.size_bytes, "bops": again.bops, "ids": key_of(again.ids)}
    faults += [f"its {name} is not what it is here" for name in told if told[name] != here[name]]
    return Rerun(claim.key, claim.score, again.score, tolerance, "; ".join(faults) or None)


def runner() -> RunCell:
    """Return what runs a cell in this process; nothing is written."""
    from benchmarks.cell import Context, run_cell
    from benchmarks.launch import Processes
    from benchmarks.parallel import Sharing

    context = Context(Sharing(Processes(0, 1, 0)))

    def run(cell: Cell) -> Record:
        return run_cell(cell, context, lambda stage, done, total: None)

    return run
