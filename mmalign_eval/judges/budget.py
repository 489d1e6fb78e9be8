"""What judging costs and may cost: prices, a budget in dollars and calls, and what was spent of it."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import BadInput, MmevalError
from ..requests import Generate, Response

# US dollars for a million prompt and a million new tokens: OpenAI's price list as of November 2024. Prices change and
# models are retired; `price_in=` and `price_out=` in the judge's spec win.
PRICES = {
    "gpt-4-0314": (30.0, 60.0),
    "gpt-4-0613": (30.0, 60.0),
    "gpt-3.5-turbo-0613": (1.5, 2.0),
    "gpt-4o-2024-11-20": (2.5, 10.0),
}
CHARACTERS_A_TOKEN = 3.0  # English has about 4: what a call may cost is rather overstated before it is made
MILLION = 1e6


class BudgetSpent(MmevalError):
    """The budget is spent and verdicts are missing; those given are kept."""


@dataclass(frozen=True)
class Price:
    """US dollars for a million tokens.

    Attributes:
        prompt: Of the prompt.
        new: Of the reply.
    """

    prompt: float
    new: float

    def of(self, response: Response, request: Generate) -> float:
        """Dollars of one reply; where the server counts no tokens, its length says how many."""
        prompt = response.prompt_tokens or _prompt_tokens(request)
        new = response.new_tokens or len(response.text) / CHARACTERS_A_TOKEN
        return (prompt * self.prompt + new * self.new) / MILLION

    def at_most(self, request: Generate) -> float:
        """Dollars that a call may cost, before it is made."""
        return (_prompt_tokens(request) * self.prompt + request.params.max_new_tokens * self.new) / MILLION


@dataclass(frozen=True)
class Limit:
    """The most that judging may cost in one run of a command.

    Attributes:
        text: As the user wrote it.
        dollars: US dollars.
        calls: Replies.
    """

    text: str = ""
    dollars: float = math.inf
    calls: float = math.inf


@dataclass
class Spending:
    """What was spent of a limit since the command began; answers that were kept from earlier cost nothing.

    Attributes:
        limit: The most.
        price: The judge's price; None: unknown.
        calls: Replies and failures so far.
        dollars: So far, as far as the price is known.
        prompt_tokens: So far.
        new_tokens: So far.
    """

    limit: Limit = field(default_factory=Limit)
    price: Price | None = None
    calls: int = 0
    dollars: float = 0.0
    prompt_tokens: int = 0
    new_tokens: int = 0

    def room(self, requests: Sequence[Generate]) -> int:
        """How many of the requests, in order, may be asked within the limit."""
        room = min(len(requests), self.limit.calls - self.calls)
        if self.price is None or math.isinf(self.limit.dollars):
            return int(max(0, room))
        left, count = self.limit.dollars - self.dollars, 0
        for request in requests[: int(max(0, room))]:
            left -= self.price.at_most(request)
            if left < 0:
                break
            count += 1
        return count

    def add(self, request: Generate, response: Response) -> None:
        """Counts one call."""
        self.calls += 1
        self.prompt_tokens += response.prompt_tokens
        self.new_tokens += response.new_tokens
        if self.price is not None and response.answered:
            self.dollars += self.price.of(response, request)

    def since(self, before: Spending) -> dict[str, Any]:
        """What was spent since an earlier state, for the result file; dollars are None where the price is unknown."""
        return {
            "calls": self.calls - before.calls,
            "prompt_tokens": self.prompt_tokens - before.prompt_tokens,
            "new_tokens": self.new_tokens - before.new_tokens,
            "dollars": None if self.price is None else round(self.dollars - before.dollars, 6),
        }

    def __str__(self) -> str:
        dollars = f", {self.dollars:.2f} US dollars" if self.price else ""
        return f"{self.calls} calls{dollars}"


def read_limit(text: str) -> Limit:
    """Reads `5`, `500calls` or both, comma-separated.

    Raises:
        BadInput: Something else, one of them twice, or nothing above 0.
    """
    found: dict[str, float] = {}
    for part in filter(None, (p.strip() for p in text.split(","))):
        match = re.fullmatch(r"\$?(\d+(?:\.\d+)?)\s*(calls|usd|dollars)?", part)
        kind = "calls" if match and match[2] == "calls" else "dollars"
        if not match or kind in found or float(match[1]) <= 0 or (kind == "calls" and "." in match[1]):
            raise BadInput(f"--judge-budget {text}: expected dollars (5), calls (500calls) or both: 5,500calls")
        found[kind] = float(match[1])
    return Limit(text, **found)


def _prompt_tokens(request: Generate) -> float:
    prompt = request.prompt
    return (len(prompt.text) + len(prompt.system or "")) / CHARACTERS_A_TOKEN
