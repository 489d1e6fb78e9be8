"""What models are made of: real configurations under `recipes/architectures/`, and models of them without weights."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict

from ..errors import BadInput, did_you_mean
from .config import Recipe

if TYPE_CHECKING:
    from transformers import LlavaForConditionalGeneration

FEATURE_LAYER = -2  # of the vision tower, whose patch features LLaVA reads (Liu et al., 2023, section 4.1)


class Architecture(BaseModel):
    """One part of a LLaVA.

    Attributes:
        about: Whose it is.
        kind: `language` (LLaMA's build) or `vision` (CLIP's vision transformer).
        source: Where the numbers come from.
        has_image_token: Whether `<image>` is in its vocabulary.
        config: Keys of transformers' `LlamaConfig` or `CLIPVisionConfig`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    about: str
    kind: Literal["language", "vision"]
    source: str
    has_image_token: bool = False
    config: dict[str, Any]


@cache
def architecture_names() -> tuple[str, ...]:
    """Names of the packaged architectures."""
    found = (file.name for file in _folder().iterdir())
    return tuple(sorted(name.removesuffix(".yaml") for name in found if name.endswith(".yaml")))


def _folder() -> Any:
    return files("mmalign_eval.tuning") / "recipes" / "architectures"


def architecture(name: str, kind: Literal["language", "vision"]) -> Architecture:
    """An architecture by name.

    Raises:
        BadInput: No such name, or one of the other kind.
    """
    known = [known for known in architecture_names() if _read(known).kind == kind]
    if name not in known:
        raise BadInput(f"unknown {kind} architecture {name!r}{did_you_mean(name, known)}; known: {', '.join(known)}")
    return _read(name)


@cache
def _read(name: str) -> Architecture:
    return Architecture.model_validate(yaml.safe_load((_folder() / f"{name}.yaml").read_text(encoding="utf-8")))


def vocabulary(recipe: Recipe) -> int:
    """Rows of the embeddings, `<image>` among them."""
    language = architecture(recipe.language, "language")
    return int(language.config["vocab_size"]) + (0 if language.has_image_token else 1)


def build(recipe: Recipe) -> LlavaForConditionalGeneration:
    """The recipe's LLaVA on the meta device: real modules, shapes and names, and no memory taken.

    Raises:
        BadInput: An architecture that is not known.
    """
    import torch
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

    language = dict(architecture(recipe.language, "language").config, vocab_size=vocabulary(recipe))
    vision = architecture(recipe.vision, "vision").config
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**vision),
        text_config=LlamaConfig(**language),
        image_token_index=vocabulary(recipe) - 1,
        vision_feature_layer=FEATURE_LAYER,
        vision_feature_select_strategy="default",
        projector_hidden_act="gelu" if recipe.projector == "mlp2x_gelu" else "linear",
        image_seq_length=(vision["image_size"] // vision["patch_size"]) ** 2,
        tie_word_embeddings=False,
    )
    with torch.device("meta"):
        return LlavaForConditionalGeneration(config)
