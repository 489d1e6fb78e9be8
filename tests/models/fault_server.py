"""A small OpenAI-compatible server on loopback that behaves as a test tells it to, and remembers what it was asked."""

from __future__ import annotations

import json
import re
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

VOCABULARY = (" fox", " dog", " over", " lazy", " 7", ".")


@dataclass(frozen=True)
class Reply:
    """What goes back over the wire."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0
    missing: int = 0  # bytes of the announced length that are never sent
    gate: threading.Barrier | None = None  # goes back once so many requests are here


@dataclass
class Seen:
    """One request as it arrived."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]


def as_json(value: Any, status: int = 200, **kwargs: Any) -> Reply:
    return Reply(json.dumps(value).encode(), status, **kwargs)


def error(status: int, message: str = "scripted", code: str | None = None, **headers: str) -> Reply:
    value = {"error": {"message": message, "type": "scripted", "code": code}}
    return as_json(value, status, headers={k.replace("_", "-"): v for k, v in headers.items()})


def ok(text: str | None = "Yes", finish: str | None = "stop", delay: float = 0.0, **message: Any) -> Reply:
    """A chat completion that is also a text completion."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text, **message}, "text": text}
    usage = {"prompt_tokens": 11, "completion_tokens": 3, "total_tokens": 14}
    value = {"choices": [{**choice, "finish_reason": finish}], "usage": usage, "model": "served-1"}
    return as_json({**value, "system_fingerprint": "fp_1"}, delay=delay)


Behaviour = Callable[[Seen], Reply]


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that gave up is no fault of the server's; its traceback would land in the output under test."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class FaultServer:
    """Answers with the scripted replies in order of arrival, then with `ok()`; or as a function says."""

    def __init__(self, script: Iterable[Reply] | Behaviour = ()) -> None:
        self.seen: list[Seen] = []
        self.peak = 0
        self._active = 0
        self._lock = threading.Lock()
        replies = iter(() if callable(script) else script)
        self._behave: Behaviour = script if callable(script) else lambda seen: next(replies, None) or ok()
        self._http = _Server(("127.0.0.1", 0), self._handler())
        self._http.daemon_threads = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}/v1"

    def __enter__(self) -> FaultServer:
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.shutdown()
        self._http.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                sent = self.rfile.read(length)
                if len(sent) < length:  # the client was stopped while it wrote
                    self.close_connection = True
                    return
                body = json.loads(sent)
                seen = Seen(self.path, {k.lower(): v for k, v in self.headers.items()}, body)
                with server._lock:
                    server.seen.append(seen)
                    server._active += 1
                    server.peak = max(server.peak, server._active)
                    reply = server._behave(seen)
                try:
                    time.sleep(reply.delay)
                    if reply.gate:
                        reply.gate.wait(60)
                finally:
                    with server._lock:
                        server._active -= 1
                self._send(reply)

            def _send(self, reply: Reply) -> None:
                head = f"HTTP/1.1 {reply.status} Scripted\r\nContent-Type: application/json\r\n"
                head += "".join(f"{k}: {v}\r\n" for k, v in reply.headers.items())
                head += f"Content-Length: {len(reply.body) + reply.missing}\r\n\r\n"
                self.close_connection = reply.missing > 0 or "Connection" in reply.headers
                try:
                    self.wfile.write(head.encode() + reply.body)
                except OSError:  # the client has gone: it timed out or was interrupted
                    self.close_connection = True

            def log_message(self, format: str, *args: Any) -> None:
                """Quiet."""

        return Handler


class ToyLM:
    """A bigram model over words with deterministic scores, behind /completions with echo and logprobs.

    `mode`: `right`, `shifted` (echoed figures belong to the next position), `none` (no logprobs), `holes` (figures
    missing inside), `deaf` (does not echo), `lossy` (reads é as e), `bos` (a begin-of-text token is echoed and
    counted in the offsets).
    """

    def __init__(self, mode: str = "right") -> None:
        self.mode = mode

    def __call__(self, seen: Seen) -> Reply:
        body = seen.body
        prompt = self.split(body["prompt"].replace("é", "e") if self.mode == "lossy" else body["prompt"])
        generated: list[str] = []
        while len(generated) < body["max_tokens"]:
            generated.append(max(VOCABULARY, key=lambda t: self.logprob([*prompt, *generated][-1], t)))
        shown = [*(prompt if body.get("echo") and self.mode != "deaf" else []), *generated]
        first = 0 if len(shown) > len(generated) else len(prompt)
        figures: dict[str, Any] | None = self.figures([*prompt, *generated], first, bool(body.get("echo")))
        choice = {"index": 0, "text": "".join(shown), "finish_reason": "length", "logprobs": figures}
        if self.mode == "none":
            choice["logprobs"] = None
        return as_json({"choices": [choice], "usage": {"prompt_tokens": len(prompt), "completion_tokens": 1}})

    @staticmethod
    def split(text: str) -> list[str]:
        return re.findall(r" ?\w+|\W", text)

    @staticmethod
    def logprob(previous: str, token: str) -> float:
        """Not normalised, and need not be."""
        return -0.05 - (zlib.crc32(f"{previous}|{token}".encode()) % 997) / 100

    def best(self, previous: str, token: str) -> float:
        return max(self.logprob(previous, t) for t in (*VOCABULARY, token))

    def figures(self, tokens: list[str], first: int, echo: bool) -> dict[str, Any]:
        pairs = list(zip([None, *tokens], tokens, strict=False))
        values = [None if before is None else self.logprob(before, token) for before, token in pairs]
        tops = [None if before is None else {"best": self.best(before, token)} for before, token in pairs]
        if echo and self.mode == "shifted":
            values, tops = [*values[1:], values[-1]], [*tops[1:], tops[-1]]
        if echo and self.mode == "holes":
            values = [v if i % 3 else None for i, v in enumerate(values)]
        offsets = [sum(map(len, tokens[:i])) for i in range(len(tokens))]
        if self.mode == "bos":
            tokens, values, tops = ["<s>", *tokens], [None, *values], [None, *tops]
            offsets = [0, *(o + 3 for o in offsets)]
            first += 1 if first else 0
        return {
            "tokens": tokens[first:],
            "text_offset": offsets[first:],
            "token_logprobs": values[first:],
            "top_logprobs": tops[first:],
        }
