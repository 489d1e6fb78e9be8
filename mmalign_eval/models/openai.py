"""Models behind an OpenAI-compatible server: `openai:NAME`, with `-M base_url=` for any server but OpenAI's own.

The key is read from the environment when the first call is made; it is in no identity, message, log or result.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from ..errors import BadInput, ImageError, Refused, did_you_mean
from ..images import ImagePool
from ..requests import MODEL_TEMPLATE, Choose, Generate, GenParams, Request, Response, failure
from ..templates import render
from .base import ModelAdapter, Options, check_options, parse_bool, parse_int
from .openai_body import DataUrls, decoding, messages
from .openai_call import KEY_VARIABLE, Backoff, Caller, CallFailed, Declined
from .openai_logprobs import Unusable, check_server, score_option
from .openai_reply import encodable, generation
from .window import windowed

OPENAI_URL = "https://api.openai.com/v1"
APIS = ("chat", "completions")
ROWS_PER_CALL = 32  # a batch is committed as a whole: 32 rounds of calls


def open_model(target: str, options: Options) -> OpenAIModel:
    """Opens `openai:TARGET`; nothing is sent yet.

    Args:
        target: The model's name on the server.
        options: `-M` keys: `base_url` (OpenAI's when missing), `api` (`chat` or `completions`), `concurrency` (calls at
            once, 8), `timeout` (seconds for a try, 300), `max_retries` (6; 0 for none), `send_stop` (whether stop
            strings go to the server; they are cut here in any case).

    Raises:
        BadInput: No name, an unknown key, or a value that makes no sense.
    """
    check_options("openai", options, OpenAIModel.option_names)
    if not target:
        raise BadInput("openai: needs the model's name on the server: openai:NAME")
    api = options.get("api", "chat")
    if api not in APIS:
        raise BadInput(f"-M api={api}: expected {' or '.join(APIS)}{did_you_mean(api, APIS)}")
    retries = options.get("max_retries", "6")
    return OpenAIModel(
        target,
        _base_url(options.get("base_url") or OPENAI_URL),
        api=api,
        concurrency=parse_int("concurrency", options.get("concurrency", "8")),
        timeout=parse_int("timeout", options.get("timeout", "300")),
        max_retries=0 if retries == "0" else parse_int("max_retries", retries),
        send_stop=parse_bool("send_stop", options.get("send_stop", "true")),
    )


def _base_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise BadInput(f"-M base_url={url}: expected http://HOST[:PORT]/v1 or https://...")
    if parts.username or parts.password or parts.query or parts.fragment:
        # not shown: it may hold a secret, and options are written to result files
        raise BadInput(f"-M base_url= may hold no user, password or query: put the key in {KEY_VARIABLE}")
    return url.rstrip("/")


class OpenAIModel(ModelAdapter):
    """A model on a server, asked over /chat/completions or /completions by `concurrency` threads."""

    option_names = ("api", "base_url", "concurrency", "max_retries", "send_stop", "timeout")

    def __init__(
        self,
        model: str,
        base_url: str,
        *,
        api: str = "chat",
        concurrency: int = 8,
        timeout: float = 300,
        max_retries: int = 6,
        send_stop: bool = True,
        backoff: Backoff = Backoff(),  # noqa: B008 - frozen
    ) -> None:
        self.model, self.base_url, self.api = model, base_url, api
        self.name = model.rstrip("/").rsplit("/", 1)[-1]
        self.images = api == "chat"
        self.concurrency, self.batch_rows = concurrency, ROWS_PER_CALL * concurrency
        self._timeout, self._max_retries, self._send_stop, self._backoff = timeout, max_retries, send_stop, backoff
        self._limit = "max_tokens"
        self._lead: int | None = None  # set once the server's log-probabilities have been checked
        self._checking = threading.Lock()
        self._urls = DataUrls()
        self._served: set[tuple[str, str]] = set()
        self._caller: Caller | None = None

    def identity(self) -> dict[str, Any]:
        """Server, model name and API; weights behind a name may change unseen, `describe` has what the server says."""
        parts = urlsplit(self.base_url)
        return {"kind": "openai", "server": parts.netloc + parts.path, "model": self.model, "api": self.api}

    def describe(self) -> dict[str, Any]:
        """Identity, concurrency, and every (model, system_fingerprint) that the server has reported so far."""
        identity = self.identity()
        served = [{"model": model, "system_fingerprint": mark} for model, mark in sorted(tuple(self._served))]
        about = {"class": type(self).__name__, "device": identity["server"], "concurrency": self.concurrency}
        return {**about, **identity, "served": served}

    def render(self, request: Request) -> str:
        """The messages as JSON with `<image>` for each image; over /completions, the text itself."""
        if self.api == "chat":
            return json.dumps(messages(request.prompt, ["<image>"] * len(request.prompt.images)), ensure_ascii=False)
        return render(request.prompt.template, request.prompt)

    def check(self, request: Request) -> None:
        """Raises `Refused` for what the API has no field for, or would answer to another prompt."""
        template, chat = request.prompt.template, self.api == "chat"
        if chat and isinstance(request, Choose):
            raise Refused("the chat API gives no log-likelihoods; give -M api=completions to a server that echoes them")
        if chat and template != MODEL_TEMPLATE:
            raise Refused(f"the chat API adds the model's own template; template {template!r} needs -M api=completions")
        if not chat and template == MODEL_TEMPLATE:
            raise Refused("/completions does not apply the model's chat template; give -M api=chat")
        if request.prompt.special_tokens is not None:
            raise Refused("the API cannot say whether special tokens (BOS) are added; run the model with hf:")
        if not chat and request.prompt.images:
            raise Refused("/completions takes no images; give -M api=chat")
        if isinstance(request, Generate):
            _check_params(request.params)
        elif request.rolling or not render(request.prompt.template, request.prompt).strip():
            raise Refused("the API gives no log-likelihood for a text's first token, so none without a context")

    def load(self) -> None:
        """Makes the client; reads the key.

        Raises:
            BadInput: OpenAI's own server, and no key.
        """
        key = os.environ.get(KEY_VARIABLE, "")
        if not key and self.base_url == OPENAI_URL:
            cure = f"set the environment variable {KEY_VARIABLE}, or give -M base_url= for another server"
            raise BadInput(f"openai:{self.model} needs a key: {cure}")
        self._caller = Caller(self.base_url, key, self._timeout, self._max_retries, self._backoff)

    def close(self) -> None:
        """Closes the connections."""
        if self._caller:
            self._caller.close()
            self._caller = None

    def answer(self, batch: Sequence[Request], images: ImagePool) -> Iterator[tuple[int, Response]]:
        """Asks `concurrency` requests at a time, each tried again as needed; yields answers as they complete.

        Raises:
            BadInput: No request can work: a wrong key, model or address, or log-probabilities that cannot be used.
        """
        stop = threading.Event()
        return windowed([partial(self._answer, r, images, stop) for r in batch], self.concurrency, stop)

    def _answer(self, request: Request, images: ImagePool, stop: threading.Event) -> Response:
        try:
            if isinstance(request, Choose):
                return self._choose(request, stop)
            return self._generate(request, images, stop)
        except Declined as error:
            return Response("refused", error=encodable(str(error)))
        except (CallFailed, ImageError) as error:
            return failure(encodable(str(error)))

    def _generate(self, request: Generate, images: ImagePool, stop: threading.Event) -> Response:
        body: dict[str, Any] = {"model": self.model, **decoding(request.params, self._send_stop)}
        if self.api == "chat":
            urls = [self._urls.get(ref, images) for ref in request.prompt.images]
            body["messages"] = messages(request.prompt, urls)
        else:
            body["prompt"] = render(request.prompt.template, request.prompt)
        try:
            reply = self._post(body, stop)
        except CallFailed as error:
            if "stop" in body and "HTTP 5" in str(error):
                raise CallFailed(f"{error}; if stop strings are what it fails on, give -M send_stop=false") from error
            raise
        return generation(reply, self.api == "chat", request.params.stop)

    def _choose(self, request: Choose, stop: threading.Event) -> Response:
        post = partial(self._post, stop=stop)
        with self._checking:
            if self._lead is None:
                try:
                    self._lead = check_server(post, self.model)
                except Unusable as problem:
                    where = f"{self.base_url}: log-likelihoods from this server cannot be used: {problem}"
                    raise BadInput(f"{where}; give a server that echoes logprobs (vLLM does), or hf:") from problem
        text = render(request.prompt.template, request.prompt)
        scored = [score_option(post, self.model, self._lead, text, option) for option in request.options]
        return Response(
            "ok",
            logprobs=tuple(s[0] for s in scored),
            greedy=tuple(s[1] for s in scored),
            prompt_tokens=sum(s[2] for s in scored),
        )

    def _post(self, body: dict[str, Any], stop: threading.Event) -> Any:
        if self._caller is None:
            self.load()
        assert self._caller is not None
        if self.api == "completions":
            reply = self._caller.completions(body, stop)
        else:
            reply = self._post_chat(self._caller, body, stop)
        if isinstance(reply, dict):
            self._served.add((_short(reply.get("model")), _short(reply.get("system_fingerprint"))))
        return reply

    def _post_chat(self, caller: Caller, body: dict[str, Any], stop: threading.Event) -> Any:
        """Newer models of OpenAI want the limit under another name and say so: then it has that name from there on."""
        limit = body.pop("max_tokens")
        name = self._limit
        try:
            return caller.chat({**body, name: limit}, stop)
        except CallFailed as error:
            if name != "max_tokens" or "max_completion_tokens" not in str(error):
                raise
            self._limit = "max_completion_tokens"
            return caller.chat({**body, self._limit: limit}, stop)


def _short(value: Any) -> str:
    return encodable(value)[:200] if isinstance(value, str) else ""


def _check_params(params: GenParams) -> None:
    unsupported = {
        "top_k": params.sampled and params.top_k > 0,  # greedy decoding is the same for every top_k
        "min_new_tokens": params.min_new_tokens > 0,
        "num_beams": params.num_beams > 1,
    }
    for name, asked in unsupported.items():
        if asked:
            raise Refused(f"the OpenAI API has no {name}; choose a protocol without it, or run the model with hf:")
