"""Tokenizers of the kinds that matter to masks, trained in a moment: LLaMA's in both habits, one without borders."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

Habit = Literal["legacy", "first", "no_borders"]
SPECIAL = ["<unk>", "<s>", "</s>", "<pad>", "<image>", "<im_start>", "<im_end>"]
IMAGE_ID = 4
_TEXTS = (
    "USER: What is in the image? ASSISTANT: A cat and a dog. ### Human: question Assistant: answer",
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful answers",
    "You are a helpful language and vision assistant [INST] system [/INST] there is a red cup on the table",
)


@cache
def llama_like(habit: Habit) -> PreTrainedTokenizerFast:
    """A byte-fallback BPE with `▁` for blanks and a BOS.

    Args:
        habit: `legacy`: as LLaMA's files have it, every stretch of text between special tokens gains a prefix blank;
            `first`: only the text's first word does (`legacy=False`); `no_borders`: tokens may reach over blanks.
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    if habit != "no_borders":
        bpe.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    else:
        bpe.normalizer = normalizers.Replace(" ", "▁")
    trainer = trainers.BpeTrainer(
        vocab_size=480, special_tokens=[*SPECIAL, *(f"<0x{i:02X}>" for i in range(256))], show_progress=False
    )
    bpe.train_from_iterator(_TEXTS * 4, trainer)
    if habit == "legacy":  # no pre-tokenizer: the merges themselves never reach over a blank
        bpe.pre_tokenizer = None
        bpe.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    bpe.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    bpe.post_processor = processors.TemplateProcessing(single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="<pad>",
        extra_special_tokens={"image_token": "<image>", "begin": "<im_start>", "end": "<im_end>"},
    )  # fmt: skip
