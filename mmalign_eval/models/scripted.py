"""`scripted:FILE` - answers from a file, for tests and for trying a task without a model.

The file is YAML or JSON: a list of rules, tried in order. A rule may have `match` (a regular expression searched in the
prompt; missing: always) and one of `text` (the answer; `{n}` groups of the match are not expanded), `choose` (index of
the likeliest option), or a fault: `raise`, `oom` (rows above this run out of memory), `nothing`, `nan`, `refuse`.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from ..errors import BadInput, OutOfMemory
from ..images import ImagePool
from ..requests import Choose, Request, Response
from .base import ModelAdapter, Options, check_options, parse_bool, parse_int

OPTIONS = ("batch_rows", "delay", "images", "log")
FAULTS = ("raise", "oom", "nothing", "nan", "refuse")
RULE_KEYS = {"match", "text", "choose", *FAULTS}
NAN = float("nan")


class ScriptedModel(ModelAdapter):
    """Answers by a function of the request; images are opened as a real model would open them."""

    def __init__(
        self,
        answer_one: Callable[[Request], Response | None],
        *,
        name: str = "scripted",
        version: str = "",
        images: bool = True,
        batch_rows: int = 64,
        delay: float = 0.0,
        log: Path | None = None,
    ) -> None:
        self._answer_one, self.name, self._version = answer_one, name, version
        self.images, self.batch_rows, self._delay, self._log = images, batch_rows, delay, log
        self.oom_above = 0

    def identity(self) -> dict[str, Any]:
        """The script's content."""
        return {"kind": "scripted", "script": self._version}

    def describe(self) -> dict[str, Any]:
        """Nothing but the kind: there are no parameters."""
        return {"class": "ScriptedModel", **self.identity()}

    def render(self, request: Request) -> str:
        """System prompt, demonstrations and text, with `<image>` for each image."""
        prompt = request.prompt
        turns = [prompt.system] if prompt.system else []
        turns += [line for demo in prompt.demos for line in demo]
        return "\n".join([*turns, "<image>\n" * len(prompt.images) + prompt.text])

    def answer(self, batch: Sequence[Request], images: ImagePool) -> Iterator[tuple[int, Response]]:
        """Answers in order."""
        if self.oom_above and len(batch) > self.oom_above:
            raise OutOfMemory(f"scripted: {len(batch)} rows, {self.oom_above} fit")
        for index, request in enumerate(batch):
            for image in request.prompt.images:
                images.get(image)
            if self._delay:
                time.sleep(self._delay)
            if self._log:
                with self._log.open("a", encoding="utf-8") as file:
                    file.write(hashlib.sha256(request.canonical.encode()).hexdigest() + "\n")
            response = self._answer_one(request)
            if response is not None:
                yield index, response


def open_model(target: str, options: Options) -> ModelAdapter:
    """Opens `scripted:FILE`.

    Raises:
        BadInput: The file is missing or not a list of rules.
    """
    check_options("scripted", options, OPTIONS)
    path = Path(target)
    if not path.is_file():
        raise BadInput(f"scripted:{target}: no such file (YAML or JSON, a list of rules with match/text/choose)")
    content = path.read_text(encoding="utf-8")
    try:
        rules = yaml.safe_load(content)
    except yaml.YAMLError as error:
        raise BadInput(f"scripted:{target}: not valid YAML: {' '.join(str(error).split())}") from error
    model = ScriptedModel(
        _by_rules(_checked_rules(rules, target)),
        name=path.stem,
        version=hashlib.sha256(content.encode()).hexdigest(),
        images=parse_bool("images", options.get("images", "true")),
        batch_rows=parse_int("batch_rows", options.get("batch_rows", "64")),
        delay=_seconds(options.get("delay", "0")),
        log=Path(options["log"]) if "log" in options else None,
    )
    model.oom_above = next((int(rule["oom"]) for rule in rules if "oom" in rule), 0)
    return model


def _seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise BadInput(f"-M delay={text}: expected seconds") from error


def _checked_rules(rules: Any, target: str) -> list[dict[str, Any]]:
    if not isinstance(rules, list) or not all(isinstance(rule, dict) for rule in rules):
        raise BadInput(f"scripted:{target}: expected a list of rules, each with match/text/choose")
    for number, rule in enumerate(rules, start=1):
        unknown = set(rule) - RULE_KEYS
        if unknown:
            raise BadInput(f"scripted:{target}: rule {number} has unknown key {sorted(unknown)[0]!r}")
        try:
            re.compile(rule.get("match", ""))
        except (re.error, TypeError) as error:
            raise BadInput(f"scripted:{target}: rule {number}: match is no regular expression ({error})") from error
        for key in ("oom", "choose"):
            if not isinstance(rule.get(key, 0), int):
                raise BadInput(f"scripted:{target}: rule {number}: {key}: expected a whole number")
    return rules


def _by_rules(rules: Sequence[dict[str, Any]]) -> Callable[[Request], Response | None]:
    compiled = [(re.compile(rule.get("match", ""), re.S), rule) for rule in rules if "oom" not in rule]

    def answer(request: Request) -> Response | None:
        for pattern, rule in compiled:
            if pattern.search(request.prompt.text):
                return _apply(rule, request)
        raise RuntimeError("no rule matches this prompt")

    return answer


def _apply(rule: dict[str, Any], request: Request) -> Response | None:
    if "raise" in rule:
        raise RuntimeError(str(rule["raise"]))
    if "refuse" in rule:
        return Response("refused", error=str(rule["refuse"]))
    if "nothing" in rule:
        return None
    if isinstance(request, Choose):
        return _choice(request, int(rule.get("choose", 0)), nan="nan" in rule)
    return Response("ok", text=str(rule.get("text", "")), finish="stop", new_tokens=1)


def _choice(request: Choose, best: int, nan: bool) -> Response:
    count = len(request.options)
    values = tuple(NAN if nan else (-1.0 if i == best else -10.0 - i) for i in range(count))
    return Response("ok", logprobs=values, greedy=tuple(i == best for i in range(count)))
