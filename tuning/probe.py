"""What a model would say as its image weakens: probabilities of named words and whole answers over noise steps.

BPO's Fig. 5 follows the likelihood of words as the next one after "The image shows a", its Fig. 4 shows the answers;
the noise is on the features before the projector (section 3.1). Everything goes through engine and store, so that an
interrupted probe goes on where it stopped.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ..data.transforms import STEPS
from ..engine import Engine
from ..errors import BadInput, MmevalError
from ..models.base import ModelAdapter
from ..requests import Choose, Generate, ImageRef, Prompt, Request, Response, greedy
from ..store import Store

EVERY = 100  # steps between those looked at by default, as in the paper's figures


@dataclass(frozen=True)
class Plan:
    """What is asked.

    Attributes:
        images: One or more; figures show means over them.
        question: About each.
        prefix: What the answer has begun with when the next word is asked for; empty: nothing.
        words: Whose probability as next word is followed.
        steps: Of the diffusion, rising.
        of_steps: Of the whole schedule.
        target: `features` or `pixels`.
        scale: Of the noise: a number, or `std`, each image's own.
        seed: Of the noise.
        responses: Whether answers are written, too.
        max_new_tokens: Of those.
    """

    images: tuple[ImageRef, ...]
    question: str
    prefix: str
    words: tuple[str, ...]
    steps: tuple[int, ...]
    of_steps: int = STEPS
    target: str = "features"
    scale: str = "std"
    seed: int = 0
    responses: bool = False
    max_new_tokens: int = 256

    def weaken(self, step: int) -> str:
        """As `-M weaken=` takes it."""
        return f"{self.target}:{step}:steps={self.of_steps}:scale={self.scale}:seed={self.seed}"


@dataclass(frozen=True)
class Word:
    """One word at one step.

    Attributes:
        step: Of the noise.
        image: Place of its image in the plan.
        word: The word.
        tokens: Of it, its blank included.
        logprob: Natural logarithm of the probability that the answer goes on with these tokens; a longer word that
            begins with them counts as well.
    """

    step: int
    image: int
    word: str
    tokens: int
    logprob: float

    @property
    def probability(self) -> float:
        """Its exponential."""
        return math.exp(self.logprob)


@dataclass
class Probe:
    """What was found.

    Attributes:
        plan: What was asked.
        words: Every word at every step of every image.
        responses: (step, image) to the answer.
    """

    plan: Plan
    words: list[Word] = field(default_factory=list)
    responses: dict[tuple[int, int], str] = field(default_factory=dict)

    def mean(self, step: int, word: str, log: bool = False) -> float:
        """Mean over images of a word's probability, or of its logarithm."""
        found = [w.logprob if log else w.probability for w in self.words if (w.step, w.word) == (step, word)]
        return math.fsum(found) / len(found)


def parse_steps(text: str, of_steps: int) -> tuple[int, ...]:
    """Reads `0,100,...,999`: numbers, `...` standing for going on in the same distance up to what follows it.

    Empty: every 100th step, and the last.

    Raises:
        BadInput: Not that form, not rising, or a step that the schedule has not.
    """
    text = text or f"0,{EVERY},...,{of_steps - 1}"
    parts = [part.strip() for part in text.split(",")]
    steps: list[int] = []
    for place, part in enumerate(parts):
        if part in ("...", "…"):
            after = parts[place + 1] if place + 1 < len(parts) else ""
            if len(steps) < 2 or not after.isdecimal():
                raise BadInput(f"--steps {text}: `...` stands between two steps and the last, as in 0,100,...,999")
            steps += range(2 * steps[-1] - steps[-2], int(after), max(1, steps[-1] - steps[-2]))
        elif part.isdecimal():
            steps.append(int(part))
        else:
            raise BadInput(f"--steps {text}: {part!r} is no step; expected whole numbers, as in 0,100,...,999")
    if any(a >= b for a, b in itertools.pairwise(steps)):
        raise BadInput(f"--steps {text}: expected rising steps")
    if steps[-1] >= of_steps:
        raise BadInput(f"--steps {text}: a schedule of {of_steps} has steps 0 to {of_steps - 1} (--of-steps)")
    return tuple(steps)


def size(plan: Plan) -> int:
    """Requests of a plan."""
    return len(plan.steps) * len(plan.images) * (bool(plan.words) + plan.responses)


def run(adapter: ModelAdapter, store: Store, plan: Plan, advance: Callable[[int, int], None]) -> Probe:
    """Asks the model at every step; its weights are loaded once, and only if something is not stored.

    Args:
        adapter: A model that sees images (`ModelAdapter.weakened`).
        store: Where answers are kept.
        plan: What to ask.
        advance: Called with (answers, errors) as they come.

    Raises:
        BadInput: Nothing to ask, a model whose images cannot be weakened, or a word that its tokenizer merges with
            what stands before it.
        MmevalError: Requests without an answer.
    """
    if not plan.images or not (plan.words or plan.responses):
        raise BadInput("nothing to probe: give images, and words (--words) or --responses")
    choosing = [_choose(adapter, plan, image) for image in plan.images] if plan.words else []
    writing = [Generate(Prompt(plan.question, (i,)), greedy(plan.max_new_tokens)) for i in plan.images]
    requests: list[Request] = [*choosing, *(writing if plan.responses else [])]
    tokens = [_tokens(adapter, plan, request) for request in choosing]
    probe = Probe(plan)
    for step in plan.steps:
        answers, _ = Engine(adapter.weakened(plan.weaken(step)), store).run(requests, advance=advance)
        failed = [answer for answer in answers if not answer.answered]
        if failed:
            raise MmevalError(f"step {step}: {len(failed)} of {len(answers)} requests failed; first: {failed[0].error}")
        for image, (answer, counts) in enumerate(zip(answers, tokens, strict=False)):
            probe.words += _read(plan, step, image, answer, counts)
        for image, answer in enumerate(answers[len(choosing) :]):
            probe.responses[step, image] = answer.text.strip()
    return probe


def _choose(adapter: ModelAdapter, plan: Plan, image: ImageRef) -> Choose:
    """The prefix alone and with each word: the difference is the word's. A prefix without text is nothing to score."""
    prompt = Prompt(plan.question, (image,))
    blank = "" if adapter.render(Choose(prompt, ())).endswith((" ", "\n")) else " "
    prefix = blank + plan.prefix.strip() if plan.prefix.strip() else ""
    return Choose(prompt, (prefix, *(f"{prefix} {word}" if prefix else blank + word for word in plan.words)))


def _tokens(adapter: ModelAdapter, plan: Plan, request: Choose) -> list[int]:
    """Tokens of each word behind the prefix; 0 where the adapter does not tell.

    Raises:
        BadInput: The prefix' tokens are not the beginning of those with the word: there is no difference to take.
    """
    sequences = adapter.sequences(request)
    if sequences is None:
        return [0] * len(plan.words)
    first, *rest = sequences
    for word, ids in zip(plan.words, rest, strict=True):
        if ids[: len(first)] != first or len(ids) == len(first):
            raise BadInput(f"--words: the tokenizer does not keep {word!r} apart from {plan.prefix!r} before it")
    return [len(ids) - len(first) for ids in rest]


def _read(plan: Plan, step: int, image: int, answer: Response, tokens: Sequence[int]) -> list[Word]:
    before, *each = answer.logprobs
    return [
        Word(step, image, word, count, logprob - before)
        for word, count, logprob in zip(plan.words, tokens, each, strict=True)
    ]
