"""One call to an OpenAI-compatible server: retried with jitter, classified, and never with the key in a message."""

from __future__ import annotations

import json
import random
import threading
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, NoReturn

from ..errors import BadInput

if TYPE_CHECKING:
    from openai import APIStatusError

KEY_VARIABLE = "OPENAI_API_KEY"
PLACEHOLDER_KEY = "none"  # for servers that want no key; the client insists on one
RETRIED = frozenset({408, 409, 429})  # with every 5xx
FILTERED = frozenset({"content_filter", "content_policy_violation"})  # error codes of OpenAI and Azure


class CallFailed(Exception):
    """A call that brought nothing usable; its text is one line."""


class Declined(CallFailed):
    """The server's content filter turned the request down."""


@dataclass(frozen=True)
class Backoff:
    """Waiting between tries: uniform in [0, min(cap, base * 2**try)] ("full jitter", Brooker 2015, AWS blog).

    Attributes:
        base: Seconds; upper end of the first wait.
        cap: Seconds; most of any wait, the server's `Retry-After` included.
    """

    base: float = 1.0
    cap: float = 60.0

    def delay(self, attempt: int, retry_after: float | None) -> float:
        """Seconds to wait after the failed try number `attempt` (from 0); the server's wish plus a little jitter."""
        if retry_after is not None:
            return min(self.cap, retry_after) + random.uniform(0, self.base)
        return random.uniform(0, min(self.cap, self.base * 2**attempt))


class Caller:
    """Posts bodies to one server.

    Attributes:
        reached: Whether anything has ever been there: an address that refuses all connections is a wrong address.
    """

    def __init__(self, base_url: str, key: str, timeout: float, max_retries: int, backoff: Backoff) -> None:
        from openai import OpenAI

        self.base_url, self._key = base_url, key
        self._max_retries, self._backoff, self.reached = max_retries, backoff, False
        self._client = OpenAI(
            base_url=base_url, api_key=key or PLACEHOLDER_KEY, timeout=timeout, max_retries=0
        )  # fmt: skip

    def chat(self, body: dict[str, Any], stop: threading.Event) -> Any:
        """Posts to /chat/completions; see `_post`."""
        return self._post(self._client.chat.completions, body, stop)

    def completions(self, body: dict[str, Any], stop: threading.Event) -> Any:
        """Posts to /completions; see `_post`."""
        return self._post(self._client.completions, body, stop)

    def close(self) -> None:
        """Closes the connections."""
        self._client.close()

    def _post(self, endpoint: Any, body: dict[str, Any], stop: threading.Event) -> Any:
        """The reply's JSON value, whatever it is.

        Raises:
            BadInput: No request can work: the key, the model or the address is wrong, or the quota is used up.
            Declined: The content filter.
            CallFailed: The last try failed, the server refused the request, or `stop` was set.
        """
        for attempt in range(self._max_retries + 1):
            reply, problem, retry_after = self._try(endpoint, body)
            if not problem:
                return reply
            if attempt < self._max_retries and stop.wait(self._backoff.delay(attempt, retry_after)):
                raise CallFailed("interrupted")
        if not self.reached:
            raise BadInput(f"{self.base_url}: {problem}; is the server running, and is -M base_url= right?")
        tries = f" ({self._max_retries + 1} tries)" if self._max_retries else ""
        raise CallFailed(problem + tries)

    def _try(self, endpoint: Any, body: dict[str, Any]) -> tuple[Any, str, float | None]:
        """(reply, "", None), or (None, problem worth another try, seconds the server asks to wait)."""
        import openai

        try:
            text = endpoint.with_raw_response.create(**body).text
        except openai.APITimeoutError as error:
            self.reached = self.reached or type(error.__cause__).__name__ != "ConnectTimeout"
            return None, "the server did not answer in time", None
        except openai.APIConnectionError as error:
            # by name: the client brings its own HTTP library, under one name or another
            self.reached = self.reached or type(error.__cause__).__name__ != "ConnectError"
            return None, self._clean(f"connection failed: {error.__cause__ or error}"), None
        except openai.APIStatusError as error:
            self.reached = True
            status = error.status_code
            if (status in RETRIED or status >= 500) and error.code != "insufficient_quota":
                return None, f"HTTP {status}: {self._clean(_message(error))}", retry_after(error.response.headers)
            self._give_up(error, str(body["model"]))
        self.reached = True
        try:
            return json.loads(text), "", None
        except (ValueError, RecursionError):
            return None, self._clean(f"the reply is not JSON: {text[:80]!r}"), None

    def _give_up(self, error: APIStatusError, model: str) -> NoReturn:
        status, where = error.status_code, self.base_url
        message = self._clean(_message(error))
        if status == 401:
            wrong = "was not accepted" if self._key else "is not set"
            raise BadInput(f"{where}: HTTP 401: the key in {KEY_VARIABLE} {wrong}") from None
        if status == 403:
            raise BadInput(f"{where}: HTTP 403: the key in {KEY_VARIABLE} may not use model {model!r}") from None
        if status == 404:
            cure = "check openai:NAME, and that -M base_url= ends as the server wants (often /v1)"
            raise BadInput(f"{where}: HTTP 404: unknown model {model!r} or address ({message}); {cure}") from None
        if error.code == "insufficient_quota":
            raise BadInput(f"{where}: HTTP {status}: the quota of the key in {KEY_VARIABLE} is used up") from None
        if error.code in FILTERED:
            raise Declined(f"HTTP {status}: {message}") from None
        raise CallFailed(f"HTTP {status}: {message}") from None

    def _clean(self, text: str) -> str:
        """One line, at most 300 characters, without the key."""
        if self._key:
            text = text.replace(self._key, "[key]")
        return " ".join(text.split())[:300]


def retry_after(headers: Any) -> float | None:
    """Seconds that a `Retry-After` header asks for (a number or a date, RFC 9110 10.2.3), or None.

    A date is taken relative to the reply's own `Date` where it has one, so that clocks need not agree.
    """
    value = (headers.get("retry-after") or "").strip()
    if value.isdigit():
        return float(value)
    until = _seconds(value)
    if until is None:
        return None
    now = _seconds(headers.get("date") or "")
    return max(0.0, until - (time.time() if now is None else now))


def _seconds(date: str) -> float | None:
    try:
        return parsedate_to_datetime(date).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None


def _message(error: APIStatusError) -> str:
    if isinstance(error.body, dict) and error.body.get("message"):
        return str(error.body["message"])
    return str(error.body or error.response.reason_phrase)
