"""Word by word, a text has the ids that its tokenizer gives for the whole."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from mmalign_eval.miniature.nano import nano_tokenizer
from mmalign_eval.models import words
from mmalign_eval.models.encoding import Scored, TextEncoder
from mmalign_eval.models.words import LLAMA_3, QWEN_2, last_line, words_of

TEXT = (
    "The following are multiple choice questions (with answers) about anatomy.\n\nWho's it? We'll see 1234 dogs.\n",
    "A. naïve café\nB. “quoted” – or not…\n\nAnswer: B\n\n\nQ: What's   that?\r\n\r\nA:\tIt's THEIR'S, they'd say 3.14",
    "    def f(x):\n        return x ** 2  # ½ of it\n\n\nclass A:\n",
)
KINDS = ("nano", "gpt2", "neox", "llama3", "qwen2")


def trained(pre_tokenizer: Any, normalizer: Any = None, template: str = "") -> PreTrainedTokenizerFast:
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizer
    trainer = trainers.BpeTrainer(
        vocab_size=500, special_tokens=["<s>", "</s>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )  # fmt: skip
    made.train_from_iterator(TEXT * 3, trainer)
    if normalizer:
        made.normalizer = normalizer
    if template:
        made.post_processor = processors.TemplateProcessing(single=template, special_tokens=[("<s>", 0), ("</s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<s>", eos_token="</s>")


def split_by(expression: str) -> Any:
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(expression), "isolated"), byte_level])


@cache
def tokenizer(kind: str) -> Any:
    if kind == "nano":
        return nano_tokenizer()
    if kind == "gpt2":
        made = trained(pre_tokenizers.ByteLevel(add_prefix_space=False))
        made.add_tokens([AddedToken("<image>", special=True), AddedToken("<dog>", lstrip=True), "##"])
        return made
    if kind == "neox":
        return trained(pre_tokenizers.ByteLevel(add_prefix_space=False), normalizers.NFC())
    if kind == "llama3":
        return trained(split_by(LLAMA_3), template="<s> $A")
    return trained(split_by(QWEN_2), normalizers.NFC())


PARTS = "\n,\n\n,\n\n\n, ,  ,\r\n,\t,'s,'LL,<dog>,Answer:,<s>,</s>,<image>,a,A. ,½,²,é,“it”,–,…,12345,_,##"
KNOWN = st.sampled_from([*PARTS.split(","), *TEXT]) | st.text("ab 1.\n'", max_size=12)
FOREIGN = st.sampled_from(["e\u0301", "\u00a0", "\u2028", "ſ", "漢", "😀", "\x1c", "٣"]) | st.text(max_size=6)
TEXTS = (st.lists(KNOWN, max_size=10) | st.lists(KNOWN | FOREIGN, max_size=10)).map("".join)


def whole(kind: str, text: str) -> list[int]:
    return tokenizer(kind)(text, add_special_tokens=False, verbose=False)["input_ids"]


@pytest.mark.parametrize("kind", KINDS)
def test_ids_are_those_of_the_whole_text(kind: str) -> None:
    made = words_of(tokenizer(kind))
    assert made is not None
    known = 0

    @given(TEXTS)
    @settings(max_examples=200, deadline=None)
    def check(text: str) -> None:
        nonlocal known
        found = made.encode(text)
        if found is not None:
            known += 1
            assert np.frombuffer(found, np.int32).tolist() == whole(kind, text)

    check()
    assert known > 60  # or nothing was tried
    for text in TEXT:
        assert made.encode(text) is not None


@pytest.mark.parametrize("kind", KINDS)
def test_a_text_may_be_cut_before_a_line_that_begins_with_a_letter(kind: str) -> None:
    made = words_of(tokenizer(kind))
    assert made is not None

    @given(TEXTS, TEXTS)
    @settings(max_examples=200, deadline=None)
    def check(text: str, more: str) -> None:
        at = last_line(text)
        if not at:
            return
        head, tail = made.encode(text[:at], inner=True), made.encode(text[at:] + more)
        if head is not None and tail is not None:
            assert np.frombuffer(head + tail, np.int32).tolist() == whole(kind, text + more)

    check()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("add_bos", [None, True, False])
def test_contexts_and_options_are_those_of_the_tokenizer(kind: str, add_bos: bool | None) -> None:
    fast, slow = TextEncoder(tokenizer(kind), add_bos), TextEncoder(tokenizer(kind), add_bos)
    slow.__dict__["_words"] = None

    @given(TEXTS, st.lists(KNOWN | FOREIGN | st.sampled_from([" A", "", "A\n\nB"]), max_size=4))
    @settings(max_examples=60, deadline=None)
    def check(context: str, options: list[str]) -> None:
        assert fast.prompt(context) == slow.prompt(context)
        assert [plain(s) for s in fast.rolling(context, 7)] == [plain(s) for s in slow.rolling(context, 7)]
        assert plain(fast.choose(context, options)) == plain(slow.choose(context, options))

    check()


def plain(scored: Scored) -> Any:
    assert scored.context.dtype == np.int32
    return scored.context.tolist(), [option.tolist() for option in scored.options]


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(words, "_KEPT", 1000)
    made = words_of(tokenizer("llama3"))
    assert made is not None
    for number in range(60):
        text = f"Number {number} of\n\nMany texts{number}\n\nTo come"
        found = made.encode(text)
        assert found is not None
        assert np.frombuffer(found, np.int32).tolist() == whole("llama3", text)
        for memory in (made._ids, made._chunks, made._inner, made._last, made._heads):
            assert len(memory) * 150 <= memory.held <= 1000


def test_other_kinds_are_left_to_the_tokenizer() -> None:
    blank_before = trained(pre_tokenizers.ByteLevel(add_prefix_space=True))
    lower = trained(pre_tokenizers.ByteLevel(add_prefix_space=False), normalizers.Lowercase())
    unknown_expression = trained(split_by(r"\w+|\W+"))
    no_words = trained(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False))
    after = trained(pre_tokenizers.ByteLevel(add_prefix_space=False), template="$A </s>")
    lines = trained(pre_tokenizers.ByteLevel(add_prefix_space=False))
    lines.add_tokens(["x\ny"])
    letters = trained(pre_tokenizers.ByteLevel(add_prefix_space=False))
    letters.add_tokens(["Answer:"])
    for made in (letters, blank_before, lower, unknown_expression, no_words, after, lines, object()):
        assert words_of(made) is None
