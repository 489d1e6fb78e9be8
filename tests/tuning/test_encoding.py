"""Token ids and masks: against the whole text in one piece, against LLaVA's own counting, and token by token."""

from __future__ import annotations

from copy import deepcopy
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mmalign_eval.tuning.encoding import Encoder, NotLearnable
from mmalign_eval.tuning.rows import IGNORED, Conversation
from mmalign_eval.tuning.segments import Name, segments
from tokenizers import AddedToken, processors

from mmalign_eval.errors import BadInput
from mmalign_eval.models.llava_parts import chat_template, make_processor
from mmalign_eval.requests import ImageRef, Prompt
from mmalign_eval.templates import messages

from .tokenizers import llama_like

IMAGE = ImageRef("image.png")
PATCHES = 3
TEMPLATES: tuple[Name, ...] = ("v0", "v1", "llava_llama_2", "plain")
TOKENIZERS = ("miniature", "trimmed", "legacy", "first")

# Words, digits, letters of several bytes, blanks and line breaks wherever; no "<": special tokens are not for users.
TEXT = st.text(alphabet="abtTz.,:#-]é字😀 0123\n", min_size=1, max_size=25)
TURNS = st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=3)


@cache
def tokenizer_of(kind: str) -> Any:
    if kind not in ("miniature", "trimmed"):
        return llama_like(kind)  # type: ignore[arg-type]
    from mmalign_eval.miniature.nano import nano_tokenizer

    tokenizer = nano_tokenizer()
    if kind == "trimmed":  # as GPT-2's: a token's span does not hold its blank
        backend = tokenizer.backend_tokenizer
        backend.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=True), backend.post_processor])
    return tokenizer


def encoder_of(kind: str, template: Name, max_length: int = 4096, wrap: bool = False) -> Encoder:
    return Encoder(tokenizer_of(kind), template, 4, PATCHES, max_length, wrap)


def conversation(turns: Any, image: bool = True) -> Conversation:
    return Conversation("id", tuple(turns), IMAGE if image else None, where="rows.json: row 0")


def one_piece(encoder: Encoder, turns: Any, image: bool) -> list[int]:
    """Ids of the whole text, tokenised at once, the image token repeated."""
    text = "".join(part.text for part in segments(turns, encoder.template, image, encoder.marks))
    ids: list[int] = encoder.tokenizer(text)["input_ids"]
    return [copy for token in ids for copy in [token] * (PATCHES if token == encoder.image_id else 1)]


@pytest.mark.parametrize("kind", TOKENIZERS)
@pytest.mark.parametrize("template", TEMPLATES)
@given(turns=TURNS, image=st.booleans())
@settings(max_examples=40, deadline=None)
def test_ids_are_those_of_the_whole_text(kind: str, template: Name, turns: Any, image: bool) -> None:
    if template == "plain":
        turns, image = turns[:1], True
    if template == "v0":  # its answers end where a line break follows: blanks at their end would be cut elsewhere
        turns = [(question, answer.rstrip() or "a") for question, answer in turns]
    encoder = encoder_of(kind, template)
    assert list(encoder.conversation(conversation(turns, image)).ids) == one_piece(encoder, turns, image)


@pytest.mark.parametrize("kind", [*TOKENIZERS, "no_borders"])
@pytest.mark.parametrize("template", TEMPLATES)
@given(question=TEXT, answer=TEXT, other=TEXT, image=st.booleans())
@settings(max_examples=25, deadline=None)
def test_prompt_and_response_are_the_one_turn_conversation(
    kind: str, template: Name, question: str, answer: str, other: str, image: bool
) -> None:
    image = image or template == "plain"
    encoder = encoder_of(kind, template)
    prompt = encoder.prompt(question, image)
    for text in (answer, other):  # one prompt for whatever answer
        assert prompt + encoder.response(text) == encoder.conversation(conversation([(question, text)], image)).ids


@pytest.mark.parametrize("template", ["v1", "llava_llama_2"])
@given(turns=TURNS, image=st.booleans())
@settings(max_examples=40, deadline=None)
def test_what_is_learnt_are_the_answers_with_their_blank_and_their_end(template: Name, turns: Any, image: bool) -> None:
    encoder = encoder_of("miniature", template)
    encoded = encoder.conversation(conversation(turns, image))
    learnt = [token for token in encoded.labels if token != IGNORED]
    blank = " " if template == "llava_llama_2" else ""
    assert encoder.tokenizer.decode(learnt) == "".join(f" {answer}{blank}</s>" for _, answer in turns)
    assert all(label in (IGNORED, token) for token, label in zip(encoded.ids, encoded.labels, strict=True))


def counted_v1(tokenizer: Any, text: str) -> tuple[list[int], list[int]]:
    """LLaVA's `preprocess_v1`: chunks around the image tokenised alone, instruction lengths counted, less two."""

    def ids_of(part: str) -> list[int]:
        first, *more = [tokenizer(chunk)["input_ids"] for chunk in part.split("<image>")]
        return first + [token for chunk in more for token in [4, *chunk[1:]]]  # one BOS only

    ids = ids_of(text)
    labels, at = [IGNORED] * len(ids), 1
    for part in text.split("</s>")[:-1]:
        instruction = len(ids_of(part[: part.index("ASSISTANT: ") + len("ASSISTANT: ")])) - 2
        end = at + len(ids_of(part))
        labels[at + instruction : end] = ids[at + instruction : end]
        at = end
    return ids, labels


@given(turns=TURNS, image=st.booleans())
@settings(max_examples=60, deadline=None)
def test_v1_equals_llavas_own_counting_on_llamas_tokenizer(turns: Any, image: bool) -> None:
    encoder = encoder_of("legacy", "v1")
    text = "".join(part.text for part in segments(turns, "v1", image))
    ids, labels = counted_v1(encoder.tokenizer, text)
    wide = [
        (token, label) for token, label in zip(ids, labels, strict=True) for _ in range(PATCHES if token == 4 else 1)
    ]
    encoded = encoder.conversation(conversation(turns, image))
    assert list(zip(encoded.ids, encoded.labels, strict=True)) == wide


def shown(encoder: Encoder, turns: Any, image: bool = True) -> list[tuple[str, bool]]:
    """Tokens and whether they are learnt, from the end of the system prompt on."""
    encoded = encoder.conversation(conversation(turns, image))
    tokens = encoder.tokenizer.convert_ids_to_tokens(list(encoded.ids))
    return [(token, label != IGNORED) for token, label in zip(tokens, encoded.labels, strict=True)]


def test_v1_token_by_token() -> None:
    tokens = shown(encoder_of("miniature", "v1"), [("a dog", "No"), ("cup", "Yes")])
    start = max(i for i, (token, _) in enumerate(tokens) if token == "<image>") - PATCHES
    assert tokens[start:] == [
        ("Ġ", False), *[("<image>", False)] * PATCHES, ("Ċ", False), ("a", False), ("Ġdog", False),
        ("ĠASSISTANT", False), (":", False), ("ĠNo", True), ("</s>", True),
        ("USER", False), (":", False), ("Ġcup", False),
        ("ĠASSISTANT", False), (":", False), ("ĠYes", True), ("</s>", True),
    ]  # fmt: skip
    assert not any(learnt for _, learnt in tokens[:start])
    assert [i for i, (token, _) in enumerate(tokens) if token == "<s>"] == [0]


def marked(tokens: list[tuple[str, bool]]) -> str:
    """`token+` if it is learnt, `token-` if not."""
    return " ".join(f"{token}{'+' if learnt else '-'}" for token, learnt in tokens)


def test_v0_token_by_token() -> None:
    tokens = shown(encoder_of("first", "v0"), [("cat", "dog"), ("cat", "dog")])
    start = next(i for i, (token, _) in enumerate(tokens) if token == "##")
    assert not any(learnt for _, learnt in tokens[:start])
    assert marked(tokens[start - 2 :]) == (
        "<0x0A>- <0x0A>- ##+ #+ ▁Human:- ▁- <image>- <image>- <image>- <0x0A>- c- at- <0x0A>- "
        "##+ #+ ▁Assistant:+ ▁do+ g+ <0x0A>+ "
        "##+ #+ ▁Human:- ▁cat- <0x0A>- ##+ #+ ▁Assistant:+ ▁do+ g+ <0x0A>+ ##+ #+ ▁+"
    )


def test_v0_learns_two_tokens_of_a_human_turn_whatever_they_hold() -> None:
    """The rule is about tokens, not signs: where `###` is one of them, the word behind it is learnt too."""
    whole = deepcopy(llama_like("first"))
    whole.add_tokens([AddedToken("###", normalized=False)])
    tokens = shown(Encoder(whole, "v0", 4, PATCHES, 4096), [("cat", "dog")])
    start = next(i for i, (token, _) in enumerate(tokens) if token == "###")
    assert marked(tokens[start : start + 3]) == "###+ ▁Human:+ ▁-"


def test_llava_llama_2_token_by_token() -> None:
    tokens = shown(encoder_of("first", "llava_llama_2"), [("cat", "dog"), ("cat", "dog")])
    answer = "▁do+ g+ ▁+ </s>+"
    start = next(i for i, (_, learnt) in enumerate(tokens) if learnt)
    assert marked(tokens[start : start + 4]) == marked(tokens[-4:]) == answer
    assert tokens[start + 4] == ("<s>", False)  # begins the second turn
    assert not any(learnt for _, learnt in tokens[start + 4 : -4])
    assert [token for token, _ in tokens].count("<s>") == 2


def test_plain_token_by_token() -> None:
    tokens = shown(encoder_of("first", "plain"), [("What is it?", "cat dog")])
    assert tokens[: 1 + PATCHES] == [("<s>", False), *[("<image>", False)] * PATCHES]
    assert all(learnt for _, learnt in tokens[1 + PATCHES :])
    assert "".join(token for token, _ in tokens[1 + PATCHES :]) == "cat▁dog<0x0A>"


def test_plain_takes_only_rows_with_an_image_and_one_turn() -> None:
    encoder = encoder_of("miniature", "plain")
    for row in (conversation([("q", "a")], image=False), conversation([("q", "a"), ("q", "a")])):
        with pytest.raises(NotLearnable, match="an image and one turn"):
            encoder.conversation(row)


def test_no_bos_where_the_tokenizer_adds_none() -> None:
    tokenizer = deepcopy(llama_like("first"))
    tokenizer.backend_tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    ids = Encoder(tokenizer, "v1", 4, PATCHES, 4096).conversation(conversation([("a", "b")])).ids
    assert ids == encoder_of("first", "v1").conversation(conversation([("a", "b")])).ids[1:]


def test_the_miniature_is_taught_the_same_ids_here_as_where_it_was_made() -> None:
    from mmalign_eval.miniature.instruct import V1_SYSTEM, encode_dialogue
    from mmalign_eval.miniature.vision import PATCHES as MINIATURE_PATCHES

    tokenizer = tokenizer_of("miniature")
    turns = [("Is there a dog?", "Yes", 1.0), ("Where is the cup?", "At the top left.", 1.0)]
    ids, weights = encode_dialogue(tokenizer, turns, V1_SYSTEM)
    encoder = Encoder(tokenizer, "v1", 4, MINIATURE_PATCHES, 4096)
    encoded = encoder.conversation(conversation([(question, answer) for question, answer, _ in turns]))
    assert list(encoded.ids) == ids
    assert [label != IGNORED for label in encoded.labels] == [weight > 0 for weight in weights]


@pytest.mark.parametrize("kind", ["legacy", "first"])
def test_an_image_can_be_wrapped(kind: str) -> None:
    encoder = encoder_of(kind, "v1", wrap=True)
    tokens = [token for token, _ in shown(encoder, [("cat", "dog")])]
    at = tokens.index("<im_start>")
    assert tokens[at : at + PATCHES + 2] == ["<im_start>", *["<image>"] * PATCHES, "<im_end>"]
    assert list(encoder.conversation(conversation([("cat", "dog")])).ids) == one_piece(encoder, [("cat", "dog")], True)
    assert "<im_start>" not in [token for token, _ in shown(encoder, [("cat", "dog")], image=False)]


def test_wrapping_needs_its_tokens() -> None:
    with pytest.raises(BadInput, match="no token <im_start>"):
        encoder_of("miniature", "v1", wrap=True)


def test_a_slow_tokenizer_is_refused() -> None:
    with pytest.raises(BadInput, match="needs a fast tokenizer"):
        Encoder(object(), "v1", 4, PATCHES, 100)


def test_text_is_cut_on_the_right_and_images_never() -> None:
    row = conversation([("a dog", "red cup on the table " * 20)])
    whole = encoder_of("miniature", "v1").conversation(row)
    answer_at = next(i for i, label in enumerate(whole.labels) if label != IGNORED)
    image_end = max(i for i, token in enumerate(whole.ids) if token == 4) + 1
    cut = encoder_of("miniature", "v1", max_length=answer_at + 5).conversation(row)
    assert (cut.ids, cut.labels) == (whole.ids[: answer_at + 5], whole.labels[: answer_at + 5])
    with pytest.raises(NotLearnable, match="nothing to learn"):
        encoder_of("miniature", "v1", max_length=answer_at).conversation(row)
    with pytest.raises(NotLearnable, match="nothing to learn"):
        encoder_of("miniature", "v1", max_length=image_end).conversation(row)
    with pytest.raises(NotLearnable, match=f"image does not fit in {image_end - 1} tokens"):
        encoder_of("miniature", "v1", max_length=image_end - 1).conversation(row)


@pytest.mark.parametrize("turn", [("what <image> is", "a"), ("what", "an <image>")])
@pytest.mark.parametrize("image", [True, False])
def test_an_image_token_in_the_text_is_refused(turn: tuple[str, str], image: bool) -> None:
    encoder = encoder_of("miniature", "v1")
    with pytest.raises(BadInput, match="rows.json: row 0: the text itself holds the image token <image>"):
        encoder.conversation(conversation([turn], image))
    with pytest.raises(BadInput, match="holds the image token"):
        encoder.prompt(turn[0], image) + encoder.response(turn[1])


@pytest.mark.parametrize("kind", TOKENIZERS)
@pytest.mark.parametrize("template", ["v0", "v1", "llava_llama_2"])
def test_a_prompt_is_trained_as_the_checkpoints_processor_shows_it(kind: str, template: Name) -> None:
    from PIL import Image
    from transformers import CLIPImageProcessor

    side = {"height": 24, "width": 24}
    images = CLIPImageProcessor(size={"shortest_edge": 24}, crop_size=side)
    wrapped = kind == "first"
    mark = "<im_start><image><im_end>" if wrapped else "<image>"
    processor = make_processor(tokenizer_of(kind), images, 12, chat_template(template, mark))
    asked = messages(Prompt("Is there a dog?\nSay it.", images=(IMAGE,)), parts=True)
    text = processor.apply_chat_template(asked, add_generation_prompt=True)
    shown = processor(text=[text], images=[Image.new("RGB", (24, 24))])["input_ids"][0]
    encoder = Encoder(tokenizer_of(kind), template, 4, 4, 4096, wrapped)
    assert list(encoder.prompt("Is there a dog?\nSay it.", image=True)) == list(shown)


def test_a_token_that_reaches_over_the_border_is_cut_there() -> None:
    encoder = encoder_of("no_borders", "v1")
    turns = [("What is in the image?", "A cat and a dog.")]
    text = "".join(part.text for part in segments(turns, "v1", image=True))
    tokenizer = encoder.tokenizer
    spans = tokenizer(text, return_offsets_mapping=True, add_special_tokens=False)["offset_mapping"]
    border = text.index("ASSISTANT:") + len("ASSISTANT:")
    assert any(start < border < end for start, end in spans)  # in one piece it does
    ids = encoder.conversation(conversation(turns)).ids
    assert tokenizer.decode(ids) == f"<s>{text.replace('<image>', '<image>' * PATCHES)}"
    assert tokenizer.decode(encoder.response("A cat and a dog.")) == " A cat and a dog.</s>"
