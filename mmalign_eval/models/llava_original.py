"""A checkpoint in LLaVA's own layout (`llava_layout` says what that is) read, and written as transformers' model."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import BadInput
from . import checkpoint as checkpoints
from . import hf_loading, llava_parts, peft_adapter
from .checkpoint import Checkpoint, one_line, read_json, small_hash
from .hf_options import HfOptions
from .llava_save import save_llava

VERSION = 1  # of the copies
EXTRAS = "non_lora_trainables.bin"
START, END, PATCH = "<im_start>", "<im_end>", "<im_patch>"

_MARKS = ("mm_vision_tower", "mm_hidden_size", "mm_projector_type")
_CLASSES = ("LlavaLlamaForCausalLM", "LlavaLLaMAForCausalLM")
_NOT_LANGUAGE = ("mm_projector", "vision_tower", "vision_resampler", "image_newline")  # what backbones leave out
_BUFFERS = ("rotary_emb.inv_freq",)
_PROJECTOR = re.compile(r"(?:^|\.)mm_projector\.((?:\d+\.)?(?:weight|bias))$")
_LAYERS = {
    "linear": {"weight": "linear_1.weight", "bias": "linear_1.bias"},
    "mlp2x_gelu": {f"{at}.{kind}": f"linear_{n}.{kind}" for at, n in ((0, 1), (2, 2)) for kind in ("weight", "bias")},
}
_STRATEGIES = {"patch": "default", "cls_patch": "full"}


@dataclass(frozen=True)
class Parts:
    """What such a checkpoint names but does not hold, where its own words are not to be followed.

    Attributes:
        vision_tower: Folder or hub id in place of `mm_vision_tower`.
        base: Folder or hub id of the language model that a LoRA form was trained on, in place of its own word for it.
        language_only: Only the language model is wanted: no tower is looked for.
    """

    vision_tower: str = ""
    base: str = ""
    language_only: bool = False


def is_original(folder: Path) -> bool:
    """Whether a folder holds a checkpoint in LLaVA's own layout."""
    file = folder / "config.json"
    if not file.is_file():
        return False
    try:
        config = read_json(file)
    except BadInput:
        return False  # opening says what is wrong with it
    if not isinstance(config, dict) or "text_config" in config:
        return False
    return any(name in _CLASSES for name in config.get("architectures") or ()) or any(m in config for m in _MARKS)


class Original:
    """A checkpoint in LLaVA's own layout, and where the rest of it is.

    Args:
        target: As the user named it.
        folder: Its files.
        parts: What the user says about the rest.
    """

    def __init__(self, target: str, folder: Path, parts: Parts) -> None:
        self.target, self.folder, self.parts = target, folder, parts
        self.config: dict[str, Any] = read_json(folder / "config.json")
        self.lora = (folder / "adapter_config.json").is_file()
        if parts.base and not self.lora:
            raise BadInput(f"-M base={parts.base}: hf:{target} is a whole checkpoint; leave it out")
        if str(self.config.get("image_aspect_ratio", "")).startswith("anyres"):
            raise BadInput(f"hf:{target}: images in several crops (anyres, LLaVA-NeXT) are not supported here")

    def base(self) -> Checkpoint:
        """The language model a LoRA form was trained on."""
        name = self.parts.base or read_json(self.folder / "adapter_config.json").get("base_model_name_or_path") or ""
        cure = "give its folder with -M base= (--base of `mmeval tune convert`)"
        if not name:
            raise BadInput(f"hf:{self.target}: a LoRA whose language model is not named: {cure}")
        try:
            found = checkpoints.open_checkpoint(str(name))
        except BadInput as error:
            raise BadInput(f"hf:{self.target}: its language model is not at hand: {cure} ({error})") from error
        if found.multimodal or is_original(found.folder):
            raise BadInput(f"hf:{self.target}: its base {name} is a LLaVA, not a language model: {cure}")
        return found

    def tower(self) -> Checkpoint:
        """The vision tower it names."""
        name = self.parts.vision_tower or self.config.get("mm_vision_tower") or ""
        cure = "give its folder with -M vision_tower= (--vision-tower of `mmeval tune convert`)"
        if not name:
            raise BadInput(f"hf:{self.target}: its config.json names no vision tower: {cure}")
        try:
            return checkpoints.open_checkpoint(str(name))
        except BadInput as error:
            only_text = "; for text alone, -M backbone=true needs none"
            raise BadInput(f"hf:{self.target}: its vision tower is not at hand: {cure}{only_text} ({error})") from error

    def weights(self) -> list[Path]:
        """Its own weight files: LLaMA's and the projector's, or LoRA's additions."""
        if self.lora:
            extras = self.folder / EXTRAS
            return [extras] if extras.is_file() else []
        return Checkpoint(self.target, self.folder, "", None).weight_files()

    def key(self) -> str:
        """A hash of everything the copy is made of."""
        parts = [str(VERSION), str(self.parts.language_only), small_hash(self.folder / "config.json")]
        parts += [checkpoints.file_hash(file) for file in self.weights()]
        patterns = ("tokenizer*", "special_tokens_map.json", "added_tokens.json", "generation_config.json")
        names = sorted({file for pattern in patterns for file in self.folder.glob(pattern) if file.is_file()})
        parts += [file.name + small_hash(file) for file in names]
        if self.lora:
            base = self.base()
            base.fetch_weights()
            parts += [peft_adapter.fingerprint(str(self.folder)), *base.fingerprints().values()]
        if not self.parts.language_only:
            tower = self.tower()
            tower.fetch_weights()
            parts += [tower.fingerprints()[name] for name in ("weights", "config", "processor")]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]

    def tokenizer(self) -> Any:
        """Its tokenizer; for a LoRA form without one, its base's with the tokens that LLaVA's loader adds."""
        from transformers import AutoTokenizer

        own = any(self.folder.glob("tokenizer*"))
        source = self.folder if own or not self.lora else self.base().folder
        try:
            tokenizer = AutoTokenizer.from_pretrained(source, config=self._language_config())
        except (OSError, ValueError, KeyError, TypeError, ImportError) as error:
            raise BadInput(f"hf:{self.target}: its tokenizer cannot be read: {one_line(error)}") from error
        if not own:
            if self.config.get("mm_use_im_patch_token", True):
                tokenizer.add_tokens([PATCH], special_tokens=True)
            if self.config.get("mm_use_im_start_end"):
                tokenizer.add_tokens([START, END], special_tokens=True)
        return tokenizer

    def _language_config(self) -> Any:
        from transformers import LlamaConfig

        dropped = ("mm_", "tune_mm", "freeze_mm", "use_mm", "_name_or_path", "transformers_version", "architectures")
        kept = {key: value for key, value in self.config.items() if not key.startswith((*dropped, "model_type"))}
        if kept.get("pad_token_id") == -1:  # LLaMA's first files: none
            kept["pad_token_id"] = None
        return LlamaConfig.from_dict(kept)

    def tensors(self) -> Iterator[tuple[str, Any]]:
        """Its own weights by the causal language model's names, those of the tower and the projector among them."""
        for name, tensor in llava_parts.read_tensors(self.weights()):
            inner = name.removeprefix("base_model.model.") if self.lora else name
            yield (inner.removeprefix("model.") if inner.startswith("model.model.") else inner), tensor


# -- writing ----------------------------------------------------------------------------------------------------------


def write(original: Original, folder: Path) -> None:
    """Writes transformers' form: a LLaVA, or the causal LM alone where only that is wanted.

    Raises:
        BadInput: Something is missing, odd, or does not fit.
        OSError: It cannot be written.
        SafetensorError: The same, while weights are written.
    """
    with hf_loading.quiet_transformers():
        own = dict(original.tensors())
        seen = {name: own.pop(name) for name in list(own) if {*_NOT_LANGUAGE} & {*name.split(".")}}
        tokenizer = original.tokenizer()
        language = _with_lora(original, own) if original.lora else _language(original, own)
        _check_tokens(original, language, tokenizer)
        if original.parts.language_only:
            language.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
            return
        model, processor = _seeing(original, language, tokenizer, seen)
        save_llava(model, processor, folder)
        _sign(original, folder)


def _language(original: Original, own: dict[str, Any]) -> Any:
    """The language model of a whole checkpoint, in the types its weights are stored in."""
    import torch
    from transformers import LlamaForCausalLM

    config = original._language_config()
    state = {name: tensor for name, tensor in own.items() if not name.endswith(_BUFFERS)}
    rows = state.get("model.embed_tokens.weight")
    if rows is not None:
        config.vocab_size = rows.shape[0]
    if config.tie_word_embeddings and rows is not None:
        state.setdefault("lm_head.weight", rows)
    kinds = {tensor.dtype for tensor in state.values() if tensor.is_floating_point()}
    widest = max(kinds, key=lambda kind: torch.finfo(kind).bits)
    return llava_parts.filled(LlamaForCausalLM, config, state, widest, f"hf:{original.target}")


def _with_lora(original: Original, own: dict[str, Any]) -> Any:
    """The language model of a LoRA form: its base, embeddings and head where they were trained, LoRA merged."""
    import torch
    from peft.tuners.tuners_utils import BaseTunerLayer
    from transformers import AutoModelForCausalLM

    base = original.base()
    dtype = hf_loading.resolve_dtype(base, HfOptions(dtype="auto"), "cpu")
    model = hf_loading.load(AutoModelForCausalLM, base, HfOptions(), dtype, "cpu")
    rows = own.get("model.embed_tokens.weight")
    if rows is not None:
        model.resize_token_embeddings(rows.shape[0], mean_resizing=False)
    parameters = model.state_dict()
    with torch.no_grad():
        for name, tensor in own.items():
            if name not in parameters or parameters[name].shape != tensor.shape:
                raise BadInput(f"hf:{original.target}: {EXTRAS}: {name} does not fit its base {base.target}")
            parameters[name].copy_(tensor)
    model = peft_adapter.apply(model, str(original.folder), lambda name: name)
    for name, layer in list(model.named_modules()):
        if isinstance(layer, BaseTunerLayer):
            layer.merge(safe_merge=True)
            above, _, last = name.rpartition(".")
            setattr(model.get_submodule(above), last, layer.get_base_layer())
    return model.eval()


def _check_tokens(original: Original, language: Any, tokenizer: Any) -> None:
    rows = language.get_input_embeddings().weight.shape[0]
    wanted = len(tokenizer)
    if rows < wanted and original.lora and not any(original.folder.glob("tokenizer*")):
        llava_parts.grow_vocabulary(language, wanted)  # tokens its loader adds, which were never trained
    elif rows < wanted:
        raise BadInput(f"hf:{original.target}: its tokenizer has {wanted} tokens, its embeddings {rows} rows")


def _seeing(original: Original, language: Any, tokenizer: Any, seen: dict[str, Any]) -> tuple[Any, Any]:
    """The whole model and its processor."""
    kind, layers = _projector(original, seen)
    config, eyes = original.config, original.tower()
    own_tower = {str(llava_parts.tower_key(n)): t for n, t in seen.items() if llava_parts.tower_key(n) is not None}
    image_id = llava_parts.give_image_token(tokenizer)
    llava_parts.grow_vocabulary(language, len(tokenizer))
    tower = llava_parts.vision_tower(eyes, language.dtype, own_tower or None)
    model = llava_parts.put_together(language, tower, kind, image_id, tokenizer)
    projector = model.model.multi_modal_projector
    state = {**projector.state_dict(), **{name: tensor.to(language.dtype) for name, tensor in layers.items()}}
    try:
        projector.load_state_dict(state)
    except RuntimeError as error:
        cause = f"its projector does not fit the vision tower {eyes.target}: {' '.join(str(error).split())[:200]}"
        raise BadInput(f"hf:{original.target}: {cause}") from error
    model.config.vision_feature_layer = int(config.get("mm_vision_select_layer", llava_parts.FEATURE_LAYER))
    feature = config.get("mm_vision_select_feature", "patch")
    if feature not in _STRATEGIES:
        raise BadInput(f"hf:{original.target}: unknown mm_vision_select_feature {feature!r}")
    model.config.vision_feature_select_strategy = _STRATEGIES[feature]
    model.config.image_seq_length += feature == "cls_patch"
    wrapped = bool(config.get("mm_use_im_start_end"))
    model.config.mm_use_im_start_end = wrapped
    pictures = llava_parts.image_processor(eyes, pad=config.get("image_aspect_ratio") == "pad")
    template = llava_parts.chat_template("v1", f"{START}{llava_parts.IMAGE}{END}" if wrapped else llava_parts.IMAGE)
    processor = llava_parts.make_processor(tokenizer, pictures, tower.config.patch_size, template)
    processor.vision_feature_select_strategy = _STRATEGIES[feature]
    return model, processor


def _projector(original: Original, seen: dict[str, Any]) -> tuple[llava_parts.ProjectorType, dict[str, Any]]:
    """Its kind and its weights by transformers' names."""
    found = {match.group(1): tensor for name, tensor in seen.items() if (match := _PROJECTOR.search(name))}
    others = [name for name in seen if "mm_projector" not in name and "vision_tower" not in name]
    unknown = sorted(name for name in seen if "mm_projector" in name and not _PROJECTOR.search(name))
    kinds: tuple[llava_parts.ProjectorType, ...] = ("linear", "mlp2x_gelu")
    for kind in kinds:
        if set(found) == set(_LAYERS[kind]) and not others and not unknown:
            return kind, {_LAYERS[kind][name]: tensor for name, tensor in found.items()}
    names = sorted([*unknown, *others, *(f"mm_projector.{name}" for name in found)])
    cause = f"a projector of another kind ({', '.join(names[:6])})" if names else "no projector (mm_projector.*) in it"
    raise BadInput(f"hf:{original.target}: {cause}; known are one linear layer and mlp2x_gelu")


def _sign(original: Original, folder: Path) -> None:
    """Keeps what stood beside the original about its making."""
    from .tuned import TUNING_FILE

    record = original.folder / TUNING_FILE
    if record.is_file():
        (folder / TUNING_FILE).write_text(json.dumps(read_json(record), indent=1) + "\n", encoding="utf-8")
