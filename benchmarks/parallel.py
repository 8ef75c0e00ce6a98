"""How the processes of a run share its cells: each takes some, or all train one together. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from benchmarks.launch import LaunchError, Processes

if TYPE_CHECKING:
    from benchmarks.suite import Budget, Cell
    from dqss.engine import Engine

Parallel = Literal["cells", "data"]
PARALLEL: tuple[Parallel, ...] = ("cells", "data")


@dataclass(frozen=True)
class Sharing:
    """The processes of a run and how they share its cells.

    Args:
        parallel: `cells`: each process takes the next one. `data`: a cell that trains is worked on by all
            processes, each with its part of every batch; the others are taken one by one.
    """

    processes: Processes
    parallel: Parallel = "cells"

    def together(self, cell: Cell) -> bool:
        """Return whether all processes work on this cell."""
        return self.parallel == "data" and self.processes.world > 1 and cell.mode == "qat"

    def told(self, cell: Cell) -> Parallel | None:
        """Return what the cell's record says of it; None in one process."""
        if self.processes.world == 1:
            return None
        return "data" if self.together(cell) else "cells"

    def dealt(self, cells: Iterable[Cell]) -> list[Cell]:
        """Return the cells that one process each takes."""
        return [cell for cell in cells if not self.together(cell)]

    def shared(self, cells: Iterable[Cell]) -> list[Cell]:
        """Return the cells that all processes work on, in the same order in each."""
        return [cell for cell in cells if self.together(cell)]

    def check(self, cells: Sequence[Cell]) -> None:
        """Raise LaunchError where a cell cannot be trained as its suite says in these processes."""
        for cell in {cell.budget: cell for cell in cells if cell.budget is not None}.values():
            assert cell.budget is not None
            try:
                self._check(cell, cell.budget)
            except ValueError as error:
                raise LaunchError(f"suite {cell.suite}: qat: training: {error}") from error

    def _check(self, cell: Cell, budget: Budget) -> None:
        parts = budget.accumulation * (self.processes.world if self.together(cell) else 1)
        if budget.batch_size % parts:
            raise ValueError(
                f"batch_size: {budget.batch_size} cannot be cut into {parts // budget.accumulation} (processes) x "
                f"{budget.accumulation} (accumulation) equal parts. Start other processes, or change the suite."
            )
        if self.processes.world > 1 and not self.together(cell) and _is_special(budget):
            name, value = ("zero", str(budget.zero)) if budget.zero else ("precision", f"'{budget.precision}'")
            raise ValueError(
                f"{name}: {value} is not allowed where each of {self.processes.world} processes takes cells of its "
                "own. Write `--parallel data`."
            )
        if _is_special(budget) or self.together(cell):
            self.engine(cell)

    def engine(self, cell: Cell) -> Engine:
        """Return what runs the steps of a cell that trains; Accelerate is imported only where it is needed.

        Raises:
            ValueError: the cell's budget asks for what these processes do not have.
        """
        budget = cell.budget
        assert budget is not None
        if self.together(cell) or _is_special(budget):
            from benchmarks.engine import Accelerated

            return Accelerated(self.processes, budget.accumulation, budget.precision, budget.zero)
        from dqss.engine import Alone

        return Alone(budget.accumulation)


def _is_special(budget: Budget) -> bool:
    return budget.precision != "no" or budget.zero > 0
