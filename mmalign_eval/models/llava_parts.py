"""What a LLaVA is put together from: a language model, a CLIP vision tower, a projector, an image token, a processor.

transformers' class has a projector of two layers. The first LLaVA's single layer is the same function with an identity
as second layer and no activation between them.
"""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

from .. import templates
from ..errors import BadInput
from .checkpoint import Checkpoint, one_line
from .hf_loading import UNSAFE_PICKLE, quiet_transformers

ProjectorType = Literal["linear", "mlp2x_gelu"]
ACTIVATIONS: dict[str, str] = {"linear": "linear", "mlp2x_gelu": "gelu"}
IMAGE, PAD = "<image>", "<pad>"
FEATURE_LAYER = -2  # the layer before the last (LLaVA, sec. 4.1: mm_vision_select_layer)

_TOWER_PREFIXES = ("model.vision_tower.", "vision_tower.")
_INNER_TOWER = ("vision_tower.vision_model.", "vision_model.")  # LLaVA's own wrapper, CLIP's own wrapper


# -- weights in files -------------------------------------------------------------------------------------------------


def read_tensors(files: list[Path], wanted: Callable[[str], bool] = lambda name: True) -> Iterator[tuple[str, Any]]:
    """Names and tensors of weight files, one at a time.

    Args:
        files: `.safetensors`, or pickled files, which may hold nothing but tensors.
        wanted: Which names to read.

    Raises:
        BadInput: A file is damaged, or a pickle that does more than hold tensors.
    """
    import torch
    from safetensors import SafetensorError, safe_open

    for file in files:
        if file.suffix == ".safetensors":
            try:
                with safe_open(file, "pt") as stored:
                    for name in filter(wanted, stored.keys()):
                        yield name, stored.get_tensor(name)
            except SafetensorError as error:
                raise BadInput(f"{file}: damaged ({one_line(error)}); fetch it again") from error
            continue
        try:
            content = torch.load(file, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(file))
        except pickle.UnpicklingError as error:
            raise BadInput(f"{file}: {UNSAFE_PICKLE}") from error
        except (RuntimeError, EOFError) as error:
            raise BadInput(f"{file}: damaged ({one_line(error)}); fetch it again") from error
        if not isinstance(content, dict) or not all(isinstance(value, torch.Tensor) for value in content.values()):
            raise BadInput(f"{file}: expected names and tensors")
        for name in filter(wanted, content):
            yield name, content[name]


# -- the parts --------------------------------------------------------------------------------------------------------


def tower_key(name: str) -> str | None:
    """A stored weight's name inside `CLIPVisionModel`; None where it is no vision tower's."""
    inside = name
    for prefix in _TOWER_PREFIXES:
        if inside.startswith(prefix):
            inside = inside.removeprefix(prefix)
            break
    else:
        if not inside.startswith(("vision_model.", "embeddings.", "pre_layrnorm.", "encoder.", "post_layernorm.")):
            return None
    for prefix in _INNER_TOWER:
        inside = inside.removeprefix(prefix)
    return None if inside.endswith("embeddings.position_ids") else inside


def vision_config(checkpoint: Checkpoint) -> Any:
    """The CLIP vision configuration in a tower's, a CLIP's or a LLaVA's checkpoint.

    Raises:
        BadInput: There is none.
    """
    config = getattr(checkpoint.config, "vision_config", checkpoint.config)
    if getattr(config, "model_type", "") != "clip_vision_model":
        kind = getattr(config, "model_type", type(config).__name__)
        raise BadInput(f"vision tower {checkpoint.target}: {kind} is no CLIP vision tower, nor does it hold one")
    return config


def vision_tower(checkpoint: Checkpoint, dtype: Any, own: dict[str, Any] | None = None) -> Any:
    """A CLIP vision tower: from its own checkpoint, from CLIP's (text side left out), or from inside a LLaVA's.

    Args:
        checkpoint: Any of these.
        dtype: torch type of the weights.
        own: Its weights by CLIPVisionModel's names, where they are not the checkpoint's.

    Raises:
        BadInput: No tower there, or not all of it.
    """
    from transformers import CLIPVisionModel

    config = vision_config(checkpoint)
    state = own or {
        str(tower_key(name)): tensor
        for name, tensor in read_tensors(checkpoint.fetch_weights(), lambda name: tower_key(name) is not None)
    }
    return filled(CLIPVisionModel, config, state, dtype, f"vision tower {checkpoint.target}")


def filled(cls: Any, config: Any, state: dict[str, Any], dtype: Any, whose: str) -> Any:
    """A transformers model of exactly these weights.

    Args:
        cls: Its class.
        config: Its configuration.
        state: All of its weights by name, and nothing else.
        dtype: torch type of the weights in memory.
        whose: Begins the message.

    Raises:
        BadInput: Weights missing, left over or of another shape; one is named.
    """
    import torch

    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in cls(config).state_dict().items()}
    wrong = sorted({*shapes} ^ {*state}) or sorted(n for n, shape in shapes.items() if state[n].shape != shape)
    if wrong:
        raise BadInput(f"{whose}: its weights are not those its config.json describes: {wrong[0]}")
    with quiet_transformers():
        return cls.from_pretrained(None, config=config, state_dict=state, dtype=dtype).eval()


def image_processor(checkpoint: Checkpoint, pad: bool) -> Any:
    """How a tower's checkpoint prepares images; CLIP's way at the tower's size where it does not say.

    Args:
        checkpoint: Of the vision tower.
        pad: Images are first set on a square of CLIP's mean colour (LLaVA-1.5's `image_aspect_ratio: pad`), rather
            than cropped to one.
    """
    from transformers import AutoImageProcessor, CLIPImageProcessor, LlavaImageProcessor

    with quiet_transformers():
        if any((checkpoint.folder / name).is_file() for name in ("preprocessor_config.json", "processor_config.json")):
            try:
                found = AutoImageProcessor.from_pretrained(checkpoint.source, **checkpoint.revision)
            except (OSError, ValueError, KeyError, TypeError) as error:
                cause = f"its image processor cannot be read: {one_line(error)}"
                raise BadInput(f"vision tower {checkpoint.target}: {cause}") from error
        else:
            size = vision_config(checkpoint).image_size
            found = CLIPImageProcessor(size={"shortest_edge": size}, crop_size={"height": size, "width": size})
        if not pad or getattr(found, "do_pad", False):
            return found
        own = {
            key: value
            for key, value in found.to_dict().items()
            if key.startswith(("do_", "image_", "size", "crop_size", "res")) and not key.endswith("_type")
        }
        return LlavaImageProcessor(**{**own, "do_pad": True})


def give_image_token(tokenizer: Any) -> int:
    """Makes sure that `<image>` is one token and that there is a padding token; returns the id of `<image>`.

    Padding is `<unk>` where there is one, as in LLaVA (train.py), else a new `<pad>`.
    """
    from tokenizers import AddedToken

    if IMAGE not in tokenizer.get_vocab():
        tokenizer.add_tokens([AddedToken(IMAGE, special=True, normalized=False)], special_tokens=True)
    if tokenizer.pad_token is None:
        if tokenizer.unk_token is not None:
            tokenizer.pad_token = tokenizer.unk_token
        else:
            tokenizer.add_special_tokens({"pad_token": PAD})
    return int(tokenizer.convert_tokens_to_ids(IMAGE))


def grow_vocabulary(language: Any, size: int) -> None:
    """Adds rows to embeddings and head up to `size`; each is the mean of the old ones (as LLaVA, builder of tokens).

    The old tokens' logits stay as they are. A new one's logit is the mean of the old logits, so that by Jensen's
    inequality it adds less than 1/V to the normaliser over the V old tokens; in trained models, far less.
    """
    import torch

    old = language.get_input_embeddings().weight.shape[0]
    if size <= old:
        return
    language.resize_token_embeddings(size, mean_resizing=False)
    with torch.no_grad():
        for layer in (language.get_input_embeddings(), language.get_output_embeddings()):
            layer.weight[old:] = layer.weight[:old].float().mean(0).to(layer.weight.dtype)


def put_together(
    language: Any, tower: Any, projector: ProjectorType, image_id: int, tokenizer: Any, seed: int = 0
) -> Any:
    """A LLaVA of its parts; they are taken over, not copied. The projector is as torch makes linear layers.

    Args:
        language: Causal LM with `<image>` in its vocabulary.
        tower: CLIPVisionModel.
        projector: `linear` or `mlp2x_gelu`; of the former, the second layer is the identity and frozen.
        image_id: Id of `<image>`.
        tokenizer: Tells the ids of beginning, end and padding.
        seed: Of the projector; the caller's random state is left as it was.

    Returns:
        LlavaForConditionalGeneration; its tower is frozen.

    Raises:
        BadInput: A language model that transformers' LLaVA cannot hold.
    """
    import torch
    from transformers import GenerationConfig, LlavaConfig, LlavaForConditionalGeneration

    _refuse_other_shapes(language)
    ids = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    language.config.pad_token_id = ids["pad_token_id"]
    config = LlavaConfig(
        vision_config=tower.config,
        text_config=language.config,
        image_token_index=image_id,
        vision_feature_layer=FEATURE_LAYER,
        vision_feature_select_strategy="default",
        projector_hidden_act=ACTIVATIONS[projector],
        image_seq_length=(tower.config.image_size // tower.config.patch_size) ** 2,
        tie_word_embeddings=bool(language.config.tie_word_embeddings),
        **ids,
    )
    with torch.device("meta"):
        model = LlavaForConditionalGeneration(config)
    config.text_config, config.vision_config = language.config, tower.config
    model.model.language_model, model.lm_head = language.model, language.lm_head
    model.model.vision_tower = tower
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        _fresh(model.model.multi_modal_projector, projector, language.lm_head.weight)
    model.generation_config = GenerationConfig(**ids)
    tower.requires_grad_(False)
    return model.eval()


def _refuse_other_shapes(language: Any) -> None:
    head = getattr(language, "lm_head", None)
    decoder = getattr(language, "model", None)
    if decoder is None or head is None or getattr(head, "bias", None) is not None or not hasattr(decoder, "layers"):
        kind = type(language).__name__
        raise BadInput(f"{kind} does not fit into transformers' LLaVA: give a LLaMA (or a model built like one)")


def _fresh(projector: Any, kind: str, like: Any) -> None:
    import torch

    projector.to_empty(device="cpu")
    for layer in (projector.linear_1, projector.linear_2):
        layer.reset_parameters()
    if kind == "linear":
        with torch.no_grad():
            torch.nn.init.eye_(projector.linear_2.weight)
            torch.nn.init.zeros_(projector.linear_2.bias)
        projector.linear_2.requires_grad_(False)
    projector.to(dtype=like.dtype, device=like.device)


# -- the processor ----------------------------------------------------------------------------------------------------

_WORDS = (
    "{%- macro words(content) -%}"
    "{%- if content is string -%}{{ content }}"
    "{%- else -%}"
    "{%- for part in content if part['type'] == 'image' -%}{{ IMAGE + '\\n' }}{%- endfor -%}"
    "{%- for part in content if part['type'] == 'text' -%}{{ part['text'] }}{%- endfor -%}"
    "{%- endif -%}"
    "{%- endmacro -%}"
    "{%- if messages and messages[0]['role'] == 'system' -%}"
    "{%- set system, turns = words(messages[0]['content']), messages[1:] -%}"
    "{%- else -%}{%- set system, turns = SYSTEM, messages -%}{%- endif -%}"
)
_JINJA = {  # the forms that trainings use (tuning/segments.py): those of LLaVA's train.py and conversation.py
    "v1": (
        "{%- if system -%}{{ system + ' ' }}{%- endif -%}"
        "{%- for turn in turns -%}"
        "{%- if turn['role'] == 'user' -%}{{ 'USER: ' + words(turn['content']) + ' ' }}"
        "{%- else -%}{{ 'ASSISTANT: ' + words(turn['content']) + eos_token }}{%- endif -%}"
        "{%- endfor -%}"
        "{%- if add_generation_prompt -%}{{ 'ASSISTANT:' }}{%- endif -%}"
    ),
    "v0": (
        "{%- if system -%}{{ system + '\\n\\n' }}{%- endif -%}"
        "{%- for turn in turns -%}"
        "{{ '### ' + ('Human' if turn['role'] == 'user' else 'Assistant') + ': ' + words(turn['content']) + '\\n' }}"
        "{%- endfor -%}"
        "{%- if add_generation_prompt -%}{{ '### Assistant:' }}{%- endif -%}"
    ),
    "llava_llama_2": (
        "{%- for turn in turns -%}"
        "{%- if turn['role'] == 'user' -%}"
        "{%- if not loop.first -%}{{ '<s>' }}{%- endif -%}"
        "{{ '[INST] ' }}"
        "{%- if loop.first and system -%}{{ '<<SYS>>\\n' + system + '\\n<</SYS>>\\n\\n' }}{%- endif -%}"
        "{{ words(turn['content']) + ' [/INST]' }}"
        "{%- else -%}{{ ' ' + words(turn['content']) + ' ' + eos_token }}{%- endif -%}"
        "{%- endfor -%}"
    ),
}
_SYSTEMS = {"v0": "vicuna_v0", "v1": "vicuna_v1", "llava_llama_2": "llava_llama_2"}  # of whose system prompt


def chat_template(name: str, image: str = IMAGE) -> str:
    """Jinja form of a training template (`v0`, `v1`, `llava_llama_2`), with its system prompt where none is given.

    Args:
        name: The template's.
        image: What stands for an image in front of a question.
    """
    system = templates.TEMPLATES[_SYSTEMS[name]].system
    return f"{{%- set SYSTEM, IMAGE = {system!r}, {image!r} -%}}{_WORDS}{_JINJA[name]}"


def make_processor(tokenizer: Any, images: Any, patch_size: int, template: str) -> Any:
    """LLaVA's processor; the additional image token is CLIP's CLS, which the strategy `default` drops.

    Args:
        tokenizer: With `<image>` in it.
        images: Image processor.
        patch_size: Of the tower, in pixels.
        template: Jinja chat template.
    """
    from transformers import LlavaProcessor

    return LlavaProcessor(
        image_processor=images,
        tokenizer=tokenizer,
        patch_size=patch_size,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        image_token=IMAGE,
        chat_template=template,
    )
