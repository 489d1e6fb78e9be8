"""Negative responses bootstrapped from the model itself (BPO, section 3.1), paired with the annotations.

| how       | type       | asked of                                            | sampling (released scripts)          |
|-----------|------------|-----------------------------------------------------|--------------------------------------|
| weakened  | `mllm-hal` | the model, with noise on the image (`-M weaken=`)   | temperature 0.2                      |
| injected  | `llm-hal`  | its language backbone, or any model, without image  | 0.8, top-p 0.95, stop at `</s>`      |
| self      | `self`     | the model as it is (Table 5's self-generated ones)  | 0.5                                  |
| contrast  | `contrast` | the model, contrasted with the weakened image       | 0.2                                  |

All generate up to 1024 tokens. Questions go through engine and store as in an evaluation, with a seed each that comes
from the positive's id: a run that was killed goes on where it stopped, and ends with the same pairs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..engine import Engine, request_keys
from ..errors import BadInput, Refused, did_you_mean
from ..models.base import ModelAdapter
from ..models.opening import open_model
from ..requests import MODEL_TEMPLATE, Generate, GenParams, ImageRef, Prompt, Response, with_seed
from ..store import Store
from .data import need_images
from .inject import PROMPTS, TEMPLATE, injection, injection_params
from .pairs import IMAGE_MARK
from .quality import same
from .rows import Pair, Positive

if TYPE_CHECKING:
    from ..evaluate import Reporter

How = Literal["weakened", "injected", "self", "contrast"]
TYPES: dict[How, str] = {"weakened": "mllm-hal", "injected": "llm-hal", "self": "self", "contrast": "contrast"}
TEMPERATURES: dict[How, float] = {"weakened": 0.2, "self": 0.5, "contrast": 0.2}
BACKBONE = "backbone"  # the injector that is the model's own
_OURS = ("weaken", "contrast")  # -M options that `how` sets


@dataclass(frozen=True)
class Plan:
    """What is generated; everything but the model that decides the pairs.

    Attributes:
        how: Kinds of negatives, in the order of their pairs.
        weaken: Noise for `weakened` and `contrast` (`models/weaken.py`).
        contrast: Alpha and beta of `contrast` (the released script's).
        temperature: Of answers with images; None: each kind's own.
        max_new_tokens: Of every answer.
        samples: Answers to each prompt and kind.
        injector: `backbone`, or a model spec.
        prompt: Of the injector, one of `PROMPTS`.
        seed: Of the run.
    """

    how: tuple[How, ...] = ("weakened", "injected")
    weaken: str = "features:800:scale=std"
    contrast: str = "1:0.2"
    temperature: float | None = None
    max_new_tokens: int = 1024
    samples: int = 1
    injector: str = BACKBONE
    prompt: str = "paper"
    seed: int = 0

    def temperature_of(self, how: How) -> float:
        """Of a kind that sees the image."""
        return TEMPERATURES[how] if self.temperature is None else self.temperature


@dataclass
class Made:
    """What became of one kind of negatives.

    Attributes:
        type: As preference files name it.
        asked: Answers asked for.
        pairs: Answers that became the rejected side of a pair.
        identical: Answers equal to the positive (but for blanks): dropped.
        empty: Answers without a word: dropped.
        repeated: Answers equal to another sample's to the same prompt: dropped.
        marked: Answers with `<image>` in them, which no prompt template can hold: dropped.
        cut: Answers to a prompt that had to be cut to fit the model: dropped, for the task was lost.
        errors: Requests without an answer.
        unfinished: Kept answers that end where `max_new_tokens` did.
        first_error: The first request's that had none.
        model: Who answered: the adapter's identity.
        cost: The engine's figures.
    """

    type: str
    asked: int = 0
    pairs: int = 0
    identical: int = 0
    empty: int = 0
    repeated: int = 0
    marked: int = 0
    cut: int = 0
    errors: int = 0
    unfinished: int = 0
    first_error: str = ""
    model: dict[str, Any] = field(default_factory=dict)
    cost: dict[str, Any] = field(default_factory=dict)


def check_plan(plan: Plan, model: str, options: Mapping[str, str]) -> None:
    """Refuses what cannot be, before any model is opened.

    Raises:
        BadInput: An unknown kind or prompt, none or one twice, samples that greedy decoding would repeat, or noise
            given as the model's own option.
    """
    for how in plan.how:
        if how not in TYPES:
            raise BadInput(f"--how {how}: unknown{did_you_mean(how, TYPES)}; known: {', '.join(TYPES)}")
    if not plan.how or len(set(plan.how)) < len(plan.how):
        raise BadInput(f"--how {','.join(plan.how)}: give one or more of {', '.join(TYPES)}, each once")
    if plan.prompt not in PROMPTS:
        hint = did_you_mean(plan.prompt, PROMPTS)
        raise BadInput(f"--prompt {plan.prompt}: unknown{hint}; known: {', '.join(PROMPTS)}")
    if plan.temperature is not None and plan.temperature < 0:
        raise BadInput(f"--temperature {plan.temperature:g}: expected 0 (greedy) or more")
    if plan.samples > 1 and plan.temperature == 0:
        raise BadInput(f"--samples {plan.samples} with --temperature 0: greedy answers are all the same")
    if not plan.weaken and {"weakened", "contrast"} & set(plan.how):
        raise BadInput("--weaken: empty; expected features:STEP or pixels:STEP (--how self is without noise)")
    for key in _OURS:
        if key in options or f",{key}=" in model:
            raise BadInput(f"{key}= as an option of the model: give --how {'weakened' if key == 'weaken' else key}")


def make_negatives(
    positives: Sequence[Positive],
    images: Path,
    model: str,
    options: Mapping[str, str],
    plan: Plan,
    store: Store,
    reporter: Reporter,
) -> tuple[list[Pair], dict[How, Made]]:
    """Generates negatives of every kind and pairs them with the positives.

    Args:
        positives: With ids of their own.
        images: Folder that their file names start from.
        model: Model spec of the LLaVA.
        options: Its `-M` options.
        plan: What to generate.
        store: Answers given before are taken from it, new ones kept in it.
        reporter: Hears of models and progress.

    Returns:
        Pairs in the order of positives, kinds and samples; and what became of each kind. Answers that failed are
        counted, and are no pair.

    Raises:
        BadInput: As `check_plan`, a missing image, or a model that cannot be opened or takes no images.
    """
    check_plan(plan, model, options)
    if set(plan.how) != {"injected"}:
        need_images((positive.image for positive in positives), images, "positives")
    # All are opened, and all questions checked, before any is asked: a slip in the last kind shows at once.
    adapters = {how: open_for(how, model, options, plan) for how in plan.how}
    requests = {how: make_requests(how, adapters[how], positives, images, plan) for how in plan.how}
    keys = {how: request_keys(adapters[how], requests[how]) for how in plan.how}
    answers: dict[How, list[Response]] = {}
    made: dict[How, Made] = {}
    for how, adapter in adapters.items():
        reporter.model(adapter)
        advance = reporter.task(how, len(requests[how]))
        try:
            answers[how], stats = Engine(adapter, store).run(requests[how], keys[how], advance)
        finally:
            adapter.close()
        made[how] = Made(TYPES[how], asked=len(requests[how]), model=adapter.identity(), cost=asdict(stats))
    pairs: list[Pair] = []
    for at, positive in enumerate(positives):
        for how in plan.how:
            start = at * plan.samples
            pairs += _paired(positive, answers[how][start : start + plan.samples], made[how])
    return pairs, made


def open_for(how: How, model: str, options: Mapping[str, str], plan: Plan) -> ModelAdapter:
    """The adapter that answers for a kind; no weights are loaded.

    Raises:
        BadInput: It cannot be opened, takes no images, or has no backbone to inject errors.
    """
    if how == "injected":
        if plan.injector != BACKBONE:
            return open_model(plan.injector, {})
        whole = open_model(model, options)
        return whole.for_text()
    more = {} if how == "self" else {"weaken": plan.weaken}
    if how == "contrast":
        more["contrast"] = plan.contrast
    try:
        adapter = open_model(model, {**options, **more})
    except BadInput as error:  # of an option that nobody gave: say who did
        if not any(str(error).startswith(f"-M {key}=") for key in more):
            raise
        raise BadInput(f"--how {how} needs a model whose images can be weakened (hf:): {model}: {error}") from error
    if not adapter.images:
        raise BadInput(f"--model {model} takes no images: negatives of kind {how} need a model that sees")
    return adapter


def make_requests(
    how: How, adapter: ModelAdapter, positives: Sequence[Positive], images: Path, plan: Plan
) -> list[Generate]:
    """What is asked for a kind: `samples` requests for each positive, in order."""
    requests = []
    template = _injector_template(adapter, plan) if how == "injected" else MODEL_TEMPLATE
    for positive in positives:
        if how == "injected":
            text = injection(plan.prompt, positive.prompt, positive.response)
            request = Generate(Prompt(text, template=template), injection_params(plan.max_new_tokens))
        else:
            prompt = Prompt(positive.prompt, images=(ImageRef(str(images / positive.image)),))
            params = GenParams(max_new_tokens=plan.max_new_tokens, temperature=plan.temperature_of(how))
            request = Generate(prompt, params)
        for number in range(plan.samples):
            seeded = with_seed(request, plan.seed, f"{positive.id}|{how}|{number}")
            assert isinstance(seeded, Generate)
            requests.append(seeded)
    return requests


def _injector_template(adapter: ModelAdapter, plan: Plan) -> str:
    """Vicuna's, as the authors', for the backbone and wherever texts are sent as they are; else the model's own."""
    if plan.injector == BACKBONE:
        try:
            adapter.check(Generate(Prompt("question", template=TEMPLATE), injection_params(1)))
        except Refused as error:
            raise BadInput(f"--injector {BACKBONE}: {adapter.name}: {error}; or give another --injector") from error
        return TEMPLATE
    try:
        adapter.check(Generate(Prompt("question"), injection_params(1)))
    except Refused:
        return TEMPLATE
    return MODEL_TEMPLATE


def _paired(positive: Positive, answers: Sequence[Response], made: Made) -> list[Pair]:
    pairs: list[Pair] = []
    said: list[str] = []
    for number, answer in enumerate(answers, start=1):
        text = answer.text.strip()
        problem = _problem(positive, answer, text, said)
        if problem:
            setattr(made, problem, getattr(made, problem) + 1)
            if problem == "errors" and not made.first_error:
                made.first_error = f"{positive.id}: {answer.error}"
            continue
        said.append(text)
        made.pairs += 1
        made.unfinished += answer.finish == "length"
        name = f"{positive.id}/{made.type}" + (f"~{number}" if number > 1 else "")
        sides = (positive.prompt, positive.response, text)
        pairs.append(Pair(name, *sides, positive.image, made.type, positive.source))
    return pairs


def _problem(positive: Positive, answer: Response, text: str, said: Sequence[str]) -> str:
    """Name of `Made`'s count that an answer falls under, empty if it makes a pair."""
    if not answer.answered:
        return "errors"
    if answer.status == "truncated":
        return "cut"
    if not text:
        return "empty"
    if IMAGE_MARK in text:
        return "marked"
    if same(text, positive.response):
        return "identical"
    return "repeated" if any(same(text, other) for other in said) else ""
