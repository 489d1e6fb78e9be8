"""From `--judge` to a judge."""

from __future__ import annotations

import math
from typing import Protocol

from ..errors import BadInput
from ..models.opening import INLINE_OPTION, open_model
from ..store import Store
from .base import Judge, OfflineJudge
from .budget import PRICES, Price, Spending, read_limit
from .model import ModelJudge

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

    Args:
        settings: The spec: `openai:NAME`, `hf:PATH` or any other model kind, with `,key=value` options of that kind and
            `price_in=`, `price_out=` (US dollars for a million tokens); empty or `rule` for the stand-in.
        store: Where verdicts are kept; None: only to see that the settings hold, the judge cannot be asked.

    Raises:
        BadInput: Unknown judge, a budget that cannot be read, or one in dollars for a judge without a known price.
    """
    limit = read_limit(settings.judge_budget)
    if settings.judge_runs < 1:
        raise BadInput(f"--judge-runs {settings.judge_runs}: expected 1 or more")
    if settings.judge in OFFLINE:
        if settings.judge_runs > 1 or settings.judge_budget:
            option = "--judge-runs" if settings.judge_runs > 1 else "--judge-budget"
            raise BadInput(f"{option} is for a model as judge (--judge openai:NAME); the stand-in is free and constant")
        return OfflineJudge()
    spec, price = _priced(settings.judge)
    try:
        adapter = open_model(spec, {})
    except BadInput as error:
        raise BadInput(f"--judge {settings.judge}: {error}") from error
    price = price or _known(str(adapter.identity().get("model", "")))
    if price is None and not math.isinf(limit.dollars):
        raise BadInput(
            f"--judge-budget {limit.text}: what {adapter.name} costs is not known; give its price in the spec "
            f"(--judge {spec},price_in=DOLLARS,price_out=DOLLARS for a million tokens), or a budget in calls"
        )
    if store is None:
        return _Unasked(settings.judge_runs)
    return ModelJudge(adapter, store, runs=settings.judge_runs, spending=Spending(limit, price))


class _Unasked(OfflineJudge):
    """Stands for a model's judge where nothing is asked: a dry run counts its calls."""

    def __init__(self, runs: int) -> None:
        self.runs = runs


def _priced(spec: str) -> tuple[str, Price | None]:
    """The spec without its prices, and the price."""
    head, *options = INLINE_OPTION.split(spec)
    given = dict(option.split("=", 1) for option in options)
    prices = {key: given.pop(key) for key in ("price_in", "price_out") if key in given}
    rest = ",".join([head, *(f"{key}={value}" for key, value in given.items())])
    if not prices:
        return rest, None
    try:
        values = [float(prices[key]) for key in ("price_in", "price_out")]
    except (KeyError, ValueError) as error:
        raise BadInput(f"--judge {spec}: give price_in= and price_out=, US dollars for a million tokens") from error
    if not all(0 <= value < math.inf for value in values):
        raise BadInput(f"--judge {spec}: prices must be 0 or more")
    return rest, Price(*values)


def _known(model: str) -> Price | None:
    return Price(*PRICES[model]) if model in PRICES else None
