"""From `--judge` to a judge."""

from __future__ import annotations

from typing import Protocol

from ..errors import BadInput
from ..store import Store
from .base import Judge, OfflineJudge

OFFLINE = ("", "rule", "lexical")


class JudgeSettings(Protocol):
    """What a run says about its judge (`RunConfig` has these fields)."""

    @property
    def judge(self) -> str:
        """Model spec, or empty for the offline stand-in."""

    @property
    def judge_runs(self) -> int:
        """Verdicts on each answer."""

    @property
    def judge_budget(self) -> str:
        """Most that judging may cost."""


def open_judge(settings: JudgeSettings, store: Store | None) -> Judge:
    """The judge of a run; its verdicts are kept in the run's store.

    Raises:
        BadInput: Unknown judge, or a budget that cannot be read.
    """
    if settings.judge in OFFLINE:
        return OfflineJudge()
    raise BadInput(f"--judge {settings.judge}: unknown judge")
