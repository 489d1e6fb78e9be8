"""What evaluation needs of a judge, and the judge that needs no model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

from ..roles import JudgeRole, Record

Watch = Callable[[str, int], Callable[[int, int], None]]  # (what, how many) -> called with (good, bad) as they come


class Judge(ABC):
    """Gives verdicts on records in the role that a task declares.

    Attributes:
        runs: Verdicts that a model is asked for on each record; 0: no model is asked.
        watch: Hears about progress.
    """

    runs: int = 0
    watch: Watch = staticmethod(lambda what, total: lambda good, bad: None)

    @abstractmethod
    def name_for(self, role: JudgeRole) -> str:
        """Who judges, as signatures and metric names say it: a model's snapshot, or the stand-in's name.

        A server tells its snapshot with its answers: ask after `verdicts`.
        """

    @abstractmethod
    def verdicts(self, role: JudgeRole, records: Sequence[Record]) -> list[list[Any]]:
        """Verdicts on each record, one a run; None for one that failed after every attempt.

        Raises:
            MmevalError: The judge cannot be asked, or its budget is spent.
        """

    def replies(self) -> list[list[str]]:
        """What the judge said for each of the last `verdicts`, word for word; nothing where nobody was asked.

        Of several attempts the last; empty where there was none: nothing to ask, or every call failed.
        """
        return []

    def describe(self) -> dict[str, Any]:
        """For the result file, about the last `verdicts`: the snapshot, runs, calls, what was spent, failures."""
        return {}

    def close(self) -> None:  # noqa: B027 - most judges hold nothing
        """Frees what the judge holds."""


class OfflineJudge(Judge):
    """The deterministic stand-in that each role brings along."""

    def name_for(self, role: JudgeRole) -> str:
        """The stand-in's name."""
        return role.stand_in

    def verdicts(self, role: JudgeRole, records: Sequence[Record]) -> list[list[Any]]:
        """One run; a stand-in never fails."""
        return [[role.offline(record)] for record in records]

    def describe(self) -> dict[str, Any]:
        """No model, no calls."""
        return {"kind": "offline"}
