"""What the image benchmarks ask, and of whom: a random LLaVA in llava-hf's layout, photographs, questions about them.

Model, processor, images and prompts lie in one folder that both sides read. Needs torch, transformers and PIL only, so
that it works in any side's environment.
"""

from __future__ import annotations

import json
import string
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lib.llava_shape import LlavaShape
from lib.photographs import photographs

if TYPE_CHECKING:
    from transformers import LlavaForConditionalGeneration, PreTrainedTokenizerFast

PAD, BOS, EOS, IMAGE = range(4)
SPECIAL = ("<pad>", "<s>", "</s>", "<image>")
THINGS = (
    "person", "dog", "cat", "chair", "car", "bottle", "table", "bench", "bird", "boat", "bowl", "clock", "cup", "fork",
    "horse", "knife", "laptop", "spoon",
)  # fmt: skip
QUESTION = "Is there a {thing} in the image?\nAnswer the question using a single word or phrase."  # LLaVA-1.5's POPE
CAPTION = "Provide a one-sentence caption for the provided image."  # LLaVA-1.5's, of captions
# Vicuna v1 without its system prompt. The peer gives the text with its placeholder, our templates give parts.
CHAT = (
    "{%- for message in messages -%}"
    "{%- if message['content'] is string -%}{%- set said = message['content'] -%}"
    "{%- else -%}{%- set found = namespace(text='') -%}"
    "{%- for part in message['content'] -%}"
    "{%- set found.text = found.text + ('<image>\n' if part['type'] == 'image' else part['text']) -%}"
    "{%- endfor -%}{%- set said = found.text -%}{%- endif -%}"
    "{{ 'USER: ' + said + ' ' if message['role'] == 'user' else 'ASSISTANT: ' + said + '</s>' }}"
    "{%- endfor -%}{%- if add_generation_prompt -%}{{ 'ASSISTANT:' }}{%- endif -%}"
)


_TOWER, _LANGUAGE = (768, 3072, 12, 12), (768, 2048, 12, 12)  # CLIP ViT-B/16; 134 M parameters with 32,000 entries
SHAPES = {
    "576": LlavaShape(_TOWER, _LANGUAGE, 32_000, 384, 16),
    "196": LlavaShape(_TOWER, _LANGUAGE, 32_000, 224, 16),
    "quick": LlavaShape((192, 768, 4, 3), (256, 704, 4, 4), 2000, 384, 16),
    "nano": LlavaShape((32, 64, 2, 2), (32, 64, 2, 2), 600, 64, 16),  # for tests
}


def build(shape: LlavaShape) -> LlavaForConditionalGeneration:
    """The model with random weights from a fixed seed. Its end token is never the likeliest, so that lengths are given.

    Its score is 0 and the highest of all others' is positive, in whatever context.
    """
    import torch
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

    torch.manual_seed(0)
    (width, mlp, layers, heads), (wide, deep, count, many) = shape.vision, shape.language
    ids: dict[str, Any] = {"bos_token_id": BOS, "eos_token_id": EOS, "pad_token_id": PAD}
    vision = CLIPVisionConfig(
        hidden_size=width, intermediate_size=mlp, num_hidden_layers=layers, num_attention_heads=heads,
        image_size=shape.image, patch_size=shape.patch, projection_dim=width,
    )  # fmt: skip
    text = LlamaConfig(
        vocab_size=shape.vocabulary, hidden_size=wide, intermediate_size=deep, num_hidden_layers=count,
        num_attention_heads=many, max_position_embeddings=2048, tie_word_embeddings=False, **ids,
    )  # fmt: skip
    config = LlavaConfig(
        vision_config=vision, text_config=text, image_token_index=IMAGE, vision_feature_layer=-2,
        vision_feature_select_strategy="default", image_seq_length=shape.image_tokens, tie_word_embeddings=False, **ids,
    )  # fmt: skip
    model = LlavaForConditionalGeneration(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1 and ("language_model" in name or "lm_head" in name):
                # Answers then differ from question to question, and rounding does not decide them.
                parameter.mul_(3.0 if "q_proj" in name or "k_proj" in name else 2.0)
        model.lm_head.weight[[PAD, BOS, EOS, IMAGE]] = 0.0
    for name, value in ids.items():
        setattr(model.generation_config, name, value)
    return model


def tokenizer(size: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE of so many entries, trained on the questions and on made-up words that fill it."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    numbers, letters = np.random.default_rng(0), np.array(list(string.ascii_lowercase))
    words = ["".join(numbers.choice(letters, numbers.integers(3, 9))) for _ in range(size)]
    asked = [CAPTION, "USER:", *(QUESTION.format(thing=thing) for thing in THINGS)] * 50
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer, bpe.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=list(SPECIAL), initial_alphabet=alphabet, show_progress=False
    )
    bpe.train_from_iterator([*asked, *(" " + word for word in words)], trainer)
    bpe.post_processor = processors.TemplateProcessing(single="<s> $A", pair=None, special_tokens=[("<s>", BOS)])
    assert bpe.get_vocab_size() == size, f"{bpe.get_vocab_size()} entries of {size}"
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe, pad_token="<pad>", bos_token="<s>", eos_token="</s>", padding_side="left",
        model_max_length=2048, extra_special_tokens={"image_token": "<image>"}, chat_template=CHAT,
    )  # fmt: skip


def make_model(folder: Path, shape: LlavaShape) -> None:
    """Writes checkpoint and processor."""
    from transformers import CLIPImageProcessor, LlavaProcessor

    side = {"height": shape.image, "width": shape.image}
    words = tokenizer(shape.vocabulary)
    processor = LlavaProcessor(
        image_processor=CLIPImageProcessor(size={"shortest_edge": shape.image}, crop_size=side), tokenizer=words,
        patch_size=shape.patch, vision_feature_select_strategy="default", num_additional_image_tokens=1,
        image_token="<image>", chat_template=CHAT,
    )  # fmt: skip
    build(shape).save_pretrained(folder)
    words.save_pretrained(folder)
    processor.save_pretrained(folder)


def make_questions(folder: Path, images: int, each: int) -> list[dict[str, str]]:
    """Writes photographs and what is asked: `each` questions an image, 0 for one caption each.

    Returns:
        `image` (file name), `question` and an id for each; `questions.json` holds them, too.
    """
    from PIL import Image

    rows = []
    for number, picture in enumerate(photographs(images)):
        name = f"{number:04d}.jpg"
        Image.fromarray(picture).save(folder / name, quality=90)
        asked = [QUESTION.format(thing=thing) for thing in THINGS[:each]] if each else [CAPTION]
        rows += [{"id": f"{number}-{i}", "image": name, "question": text} for i, text in enumerate(asked)]
    (folder / "questions.json").write_text(json.dumps(rows))
    return rows


def read_questions(folder: Path) -> list[dict[str, str]]:
    """What `make_questions` wrote."""
    rows: list[dict[str, str]] = json.loads((folder / "questions.json").read_text())
    return rows


def prepare(folder: Path, shape: LlavaShape, images: int, each: int) -> Path:
    """Makes `model/` and the questions in a folder, unless they are there; returns the questions' folder."""
    if not (folder / "model" / "config.json").exists():
        make_model(folder / "model", shape)
    data = folder / f"data-{images}-{each}"
    if not data.exists():
        data.mkdir(parents=True)
        make_questions(data, images, each)
    return data
