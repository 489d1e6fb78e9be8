"""lm-eval instances to our requests and our responses back to what lm-eval scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import BadInput
from ..requests import RAW_TEMPLATE, Choose, Generate, GenParams, Prompt, Request, Response

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance

MAX_GEN_TOKS = 256  # lm_eval/defaults.py DEFAULT_MAX_GEN_TOKS
# lm_eval/models/utils.py normalize_gen_kwargs: aliases of the token limit, first one given wins
TOKEN_LIMITS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
SAMPLING = {"top_p": float, "top_k": int, "num_beams": int, "min_new_tokens": int}


@dataclass(frozen=True, slots=True)
class Slot:
    """Where the answer to an instance is.

    Attributes:
        kind: lm-eval's request type.
        request: Number of our request.
        option: Option of a `Choose`; 0 otherwise.
        idx: lm-eval's order of instances.
        repeats: How often lm-eval would ask; a greedy answer is the same each time.
    """

    kind: str
    request: int
    option: int
    idx: int
    repeats: int


def to_requests(instances: Sequence[Instance], where: str) -> tuple[tuple[Request, ...], tuple[Slot, ...]]:
    """Regroups the instances of one document.

    Log-likelihood instances of equal context become the options of one `Choose`, in order.

    Returns:
        Our requests, and one slot an instance.

    Raises:
        BadInput: A generation option that no backend of ours has, or repeated sampling.
    """
    contexts: dict[str, int] = {}
    options: dict[int, list[str]] = {}
    made: list[Request | None] = []
    slots = []
    for instance in instances:
        option = 0
        if instance.request_type == "loglikelihood":
            context, continuation = instance.args
            number = contexts.setdefault(context, len(made))
            if number == len(made):
                made.append(None)
            option = len(options.setdefault(number, []))
            options[number].append(continuation)
        elif instance.request_type == "loglikelihood_rolling":
            number = len(made)
            made.append(Choose(_raw(""), (instance.args[0],), rolling=True))
        elif instance.request_type == "generate_until":
            number = len(made)
            context, kwargs = instance.args
            made.append(Generate(_raw(context), gen_params(kwargs, where)))
            if (instance.repeats or 1) > 1 and made[-1].params.sampled:  # type: ignore[union-attr]
                raise BadInput(f"{where}: lm-eval tasks that sample several answers to a prompt cannot be run here")
        else:
            raise BadInput(f"{where}: lm-eval request type {instance.request_type!r} cannot be run here")
        slots.append(Slot(instance.request_type, number, option, instance.idx, instance.repeats or 1))
    for context, number in contexts.items():
        made[number] = Choose(_raw(context), tuple(options[number]))
    return tuple(r for r in made if r is not None), tuple(slots)


def gen_params(kwargs: Mapping[str, Any], where: str) -> GenParams:
    """lm-eval's generation arguments as ours, with the defaults of its HF model.

    Raises:
        BadInput: One that cannot be honoured.
    """
    given = dict(kwargs)
    until = given.pop("until", None) or []
    limits = [given.pop(name, None) for name in TOKEN_LIMITS]
    limit = next((value for value in limits if value is not None), MAX_GEN_TOKS)
    temperature = float(given.pop("temperature", 0.0) or 0.0)
    if given.pop("do_sample", None) is False:
        temperature = 0.0
    # nucleus and top-k restrict sampling only; greedy requests do not carry them, so that equal requests are equal
    shape = {name: cast(given.pop(name)) for name, cast in SAMPLING.items() if name in given}
    if temperature == 0.0:
        shape = {name: value for name, value in shape.items() if name not in ("top_p", "top_k")}
    if given:
        raise BadInput(f"{where}: generation option {next(iter(given))!r} of the lm-eval task cannot be honoured")
    stop = tuple(s for s in ([until] if isinstance(until, str) else until) if s)
    return GenParams(max_new_tokens=int(limit), temperature=temperature, stop=stop, **shape)


def answer(slot: Slot, responses: Sequence[Response]) -> Any:
    """What lm-eval's model would have returned for an instance."""
    response = responses[slot.request]
    if slot.kind == "loglikelihood":
        # answers made elsewhere come without: no option then counts as what greedy decoding would have given
        return response.logprobs[slot.option], bool(response.greedy) and response.greedy[slot.option]
    return response.logprobs[0] if slot.kind == "loglikelihood_rolling" else response.text


def _raw(text: str) -> Prompt:
    return Prompt(text, template=RAW_TEMPLATE)
