"""Checkpoints for the text benchmarks: a LLaMA with random weights and a byte-level BPE of the benchmark's own text."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

VOCABULARY = 32_000
SPECIAL = ("<unk>", "<s>", "</s>")


@dataclass(frozen=True)
class Shape:
    """A LLaMA's sizes.

    Attributes:
        hidden: Width.
        mlp: Width of the gated MLP.
        layers: Their number.
        heads: Of attention; keys and values have as many.
        vocabulary: Entries; input and output matrices are two.
    """

    hidden: int
    mlp: int
    layers: int
    heads: int
    vocabulary: int = VOCABULARY

    @property
    def layer(self) -> int:
        """Numbers in one layer's matrices."""
        return 4 * self.hidden * self.hidden + 3 * self.hidden * self.mlp

    @property
    def parameters(self) -> int:
        """Numbers in all matrices."""
        return self.layers * self.layer + 2 * self.vocabulary * self.hidden


SHAPES = {
    "134m": Shape(768, 2048, 12, 12),
    "35m": Shape(384, 1024, 6, 6),
    "nano": Shape(64, 172, 2, 4, vocabulary=1_000),
}


def make(folder: Path, shape: Shape, texts: Iterable[str]) -> None:
    """Writes a checkpoint: weights from a fixed seed, a tokenizer trained on `texts`.

    A text too short for so many merges leaves entries that no text has; the matrices have their full size all the same.
    """
    import torch
    from tokenizers import ByteLevelBPETokenizer, Tokenizer
    from tokenizers.processors import TemplateProcessing
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator(texts, shape.vocabulary, special_tokens=list(SPECIAL), show_progress=False)
    bpe = json.loads(trained._tokenizer.to_str())
    # without merges no text becomes one of these; as added tokens they would slow both sides' tokenizers down
    bpe["model"]["vocab"] |= {f"<extra_{n}>": n for n in range(len(bpe["model"]["vocab"]), shape.vocabulary)}
    tokenizer = Tokenizer.from_str(json.dumps(bpe))
    tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="<unk>"
    ).save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=shape.vocabulary, hidden_size=shape.hidden, intermediate_size=shape.mlp,
        num_hidden_layers=shape.layers, num_attention_heads=shape.heads, max_position_embeddings=4096,
        bos_token_id=1, eos_token_id=2, pad_token_id=0, tie_word_embeddings=False,
    )  # fmt: skip
    LlamaForCausalLM(config).float().save_pretrained(folder)
