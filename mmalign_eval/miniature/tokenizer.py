"""Byte-level BPE tokenizer and LLaVA processor of the miniature, built in-process from its own texts."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

if TYPE_CHECKING:
    from transformers import LlavaProcessor

PAD, BOS, EOS, UNK, IMAGE = "<pad>", "<s>", "</s>", "<unk>", "<image>"
SPECIAL = [PAD, BOS, EOS, UNK, IMAGE]
PAD_ID, BOS_ID, EOS_ID, UNK_ID, IMAGE_ID = range(5)

# Vicuna v1 turns as LLaVA-1.5 renders them (haotian-liu/LLaVA conversation.py): "USER: q ASSISTANT: a</s>USER: ...".
CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{%- set text = namespace(value='') -%}"
    "{%- if message['content'] is string -%}{%- set text.value = message['content'] -%}"
    "{%- else -%}"
    "{%- for part in message['content'] if part['type'] == 'image' -%}"
    "{%- set text.value = text.value + '<image>\\n' -%}"
    "{%- endfor -%}"
    "{%- for part in message['content'] if part['type'] == 'text' -%}"
    "{%- set text.value = text.value + part['text'] -%}"
    "{%- endfor -%}"
    "{%- endif -%}"
    "{%- if message['role'] == 'system' -%}{{ text.value + ' ' }}"
    "{%- elif message['role'] == 'user' -%}{{ 'USER: ' + text.value + ' ' }}"
    "{%- else -%}{{ 'ASSISTANT: ' + text.value + eos_token }}"
    "{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ 'ASSISTANT:' }}{%- endif -%}"
)


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """Train a BPE tokenizer that can spell every byte, keeps digits apart and adds a BOS as LLaMA's does."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    bpe.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A $B", special_tokens=[(BOS, BOS_ID)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        unk_token=UNK,
        padding_side="left",
        model_max_length=2048,
        extra_special_tokens={"image_token": IMAGE},
    )


def load_tokenizer(path: Path) -> PreTrainedTokenizerFast:
    """A tokenizer that was saved before."""
    tokenizer = AutoTokenizer.from_pretrained(path)
    assert isinstance(tokenizer, PreTrainedTokenizerFast)
    return tokenizer


def make_processor(tokenizer: PreTrainedTokenizerFast, image_size: int, patch_size: int) -> LlavaProcessor:
    """LLaVA processor for square images; the one additional token is CLIP's CLS, which strategy "default" drops."""
    from transformers import CLIPImageProcessor, LlavaProcessor

    side = {"height": image_size, "width": image_size}
    image_processor = CLIPImageProcessor(size={"shortest_edge": image_size}, crop_size=side)
    return LlavaProcessor(
        image_processor=image_processor,
        tokenizer=tokenizer,
        patch_size=patch_size,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        image_token=IMAGE,
        chat_template=CHAT_TEMPLATE,
    )
