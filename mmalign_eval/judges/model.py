"""A model as a judge: asked through the engine, so that verdicts are kept, retried, counted and paid for once."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ..engine import Advance, Engine, request_keys
from ..models.base import ModelAdapter
from ..requests import Generate, Response, with_seed
from ..roles import JudgeRole, Record
from ..store import Store
from .base import Judge
from .budget import BudgetSpent, Spending

SEED = 0  # a judge's own: another seed of the run is no reason to judge the same answer anew
ROWS_A_ROUND = 256  # asked between two looks at the budget


@dataclass
class _Case:
    """One verdict to be given.

    Attributes:
        record: Which record.
        run: Which run.
        first: The request as first made.
        name: What tells it from others, for its seed.
        unread: Replies so far that could not be read.
        response: The last reply.
    """

    record: int
    run: int
    first: Generate
    name: str
    unread: int = 0
    response: Response | None = None

    def request(self, role: JudgeRole) -> Generate:
        """The request now: after a reply that could not be read, the role's other way of asking."""
        request = role.again(self.first, self.unread) if self.unread else self.first
        seeded = with_seed(request, SEED, f"{self.name}{self.suffix}")
        assert isinstance(seeded, Generate)
        return seeded

    @property
    def suffix(self) -> str:
        """Empty for the first reply of the first run; every other one is kept under its own key."""
        run = f"#run{self.run}" if self.run else ""
        return run + (f"#try{self.unread}" if self.unread else "")


class ModelJudge(Judge):
    """A model in the role of a judge.

    A reply that cannot be read is asked for again as the role says, a call that failed is made again as it was; after
    `role.attempts` in all the verdict counts as failed. Replies are in the store under the content of the request, so
    that no verdict is paid for twice.
    """

    def __init__(self, adapter: ModelAdapter, store: Store, *, runs: int, spending: Spending) -> None:
        self.runs, self.spending = runs, spending
        self._adapter, self._engine, self._store = adapter, Engine(adapter, store), store
        self._served: set[str] = set()
        self._about: dict[str, Any] = {}
        self._said: list[list[str]] = []

    def name_for(self, role: JudgeRole) -> str:
        """The snapshot that the server named, else the model asked for; weights on this machine by their hash."""
        if self._served:
            return "+".join(sorted(self._served))
        identity = self._adapter.identity()
        if "server" in identity:
            return str(identity["model"])
        return f"{self._adapter.name}-{self._adapter.fingerprint()[:8]}"

    def verdicts(self, role: JudgeRole, records: Sequence[Record]) -> list[list[Any]]:
        """`runs` verdicts on each record; None for one that failed after every attempt.

        Raises:
            BudgetSpent: The budget does not last; what was answered is kept.
            MmevalError: The judge cannot be asked.
        """
        self._served, before, cached, retries = set(), copy.copy(self.spending), 0, 0
        found: list[list[Any]] = [[role.unasked] * self.runs for _ in records]
        cases = list(self._cases(role, records))
        heard = self.watch(f"{role.name} {self._adapter.name}", len(cases))
        pending = cases
        for attempt in range(role.attempts):
            if not pending:
                break
            retries += len(pending) if attempt else 0
            cached += self._answer(role, pending, len(cases), _unheard if attempt else heard)
            pending = [case for case in pending if not self._read(role, case, found)]
        for case in pending:
            found[case.record][case.run] = None
        self._said = [[""] * self.runs for _ in records]
        for case in cases:
            self._said[case.record][case.run] = case.response.text if case.response and case.response.answered else ""
        self._about = {
            "kind": "model",
            "name": self.name_for(role),
            "identity": self._adapter.identity(),
            "role": role.name,
            "official": role.official,
            "runs": self.runs,
            "n_verdicts": len(cases),
            "n_failed": len(pending),
            "retries": retries,
            "cached": cached,
            **self.spending.since(before),
        }
        return found

    def replies(self) -> list[list[str]]:
        """The last reply to each request for a verdict."""
        return self._said

    def describe(self) -> dict[str, Any]:
        """Snapshot, runs, failures, and what the last `verdicts` cost in this run of the command."""
        return dict(self._about)

    def close(self) -> None:
        """Frees the weights or closes the connections."""
        self._adapter.close()

    def _cases(self, role: JudgeRole, records: Sequence[Record]) -> Iterator[_Case]:
        for index, record in enumerate(records):
            request = role.ask(record)
            if request is not None:
                yield from (_Case(index, run, request, str(record["id"])) for run in range(self.runs))

    def _read(self, role: JudgeRole, case: _Case, found: list[list[Any]]) -> bool:
        """Whether the last reply gives a verdict."""
        assert case.response is not None
        if not case.response.answered:
            case.unread += case.response.status == "refused"  # a call that failed tells nothing of the question
            return False
        self._served.update(filter(None, [case.response.served]))
        verdict = role.parse(case.response.text)
        if verdict is None:
            case.unread += 1
            return False
        found[case.record][case.run] = verdict
        return True

    def _answer(self, role: JudgeRole, cases: Sequence[_Case], total: int, heard: Advance) -> int:
        """Gives each case its reply; returns how many were kept from earlier."""
        requests = [case.request(role) for case in cases]
        keys = [
            hashlib.sha256(f"{key}{case.suffix}".encode()).hexdigest() if case.suffix else key
            for key, case in zip(request_keys(self._adapter, requests), cases, strict=True)
        ]
        answers = self._store.get_many(list(dict.fromkeys(keys)))
        cached = sum(key in answers for key in keys)
        heard(cached, 0)
        left = [(k, r) for k, r in dict(zip(keys, requests, strict=True)).items() if k not in answers]
        while left:
            room = self.spending.room([request for _, request in left[:ROWS_A_ROUND]])
            if not room:
                raise self._spent(role, len(cases) - sum(key in answers for key in keys), total)
            asked, left = left[:room], left[room:]
            responses, _ = self._engine.run([request for _, request in asked], [key for key, _ in asked])
            new = {key for key, _ in asked}
            heard(sum(key in new for key in keys), 0)
            for (key, request), response in zip(asked, responses, strict=True):
                answers[key] = response
                self.spending.add(request, response)
        for case, key in zip(cases, keys, strict=True):
            case.response = answers[key]
        return cached

    def _spent(self, role: JudgeRole, remaining: int, total: int) -> BudgetSpent:
        return BudgetSpent(
            f"--judge-budget {self.spending.limit.text} is spent ({self.spending}): {remaining} of {total} verdicts of "
            f"{self._adapter.name} as {role.name} remain; all given so far are kept - run the same command again, "
            f"or with a larger budget, to go on"
        )


def _unheard(good: int, bad: int) -> None:
    """Further attempts are no further verdicts."""
