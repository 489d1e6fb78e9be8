"""The `-M` options of `hf:` models."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .. import templates
from ..errors import BadInput, did_you_mean
from ..requests import MODEL_TEMPLATE
from .base import Options, check_options, parse_bool, parse_int
from .weaken import Contrast, Weaken, parse_contrast, parse_weaken

DTYPES = ("auto", "float32", "bfloat16", "float16")
ATTENTION = ("eager", "sdpa")  # others only once a run has shown that they work here
# New tokens a second by rows of texts (CPU, one thread, float32, prompts of 64 tokens, random LLaMA, one run each):
# 34 M parameters at 1, 8, 32, 64, 128, 256 rows: 54, 274, 754, 505, 633, 476; 134 M at 1 to 128: 20, 79, 140, 152, 156.
DEFAULT_ROWS = 128
MOST_TOKENS = 131_072  # beyond that, a batch's decoded images cost the host more than the model gains


@dataclass(frozen=True)
class HfOptions:
    """Parsed options; the names are those of `-M`.

    Attributes:
        adapter: Folder of a PEFT adapter, or empty.
        backbone: Open only the language model of a multimodal checkpoint.
        dtype: Weights' type; empty: float32 on CPU, the checkpoint's own elsewhere.
        device: `auto`, `cpu`, `cuda`, `cuda:1`, ...
        device_map: Spread over devices by accelerate (`auto`, `balanced`, ...); empty: one device.
        attn: Attention implementation; empty: the library's choice.
        revision: Branch, tag or commit of a hub repository; empty: its main branch.
        template: Named template used where a prompt asks for the checkpoint's own.
        vision_tower: Folder or hub id of the vision tower of a checkpoint in LLaVA's own layout, if not as it says.
        base: The same of the language model that a LoRA in that layout was trained on.
        add_bos: Whether texts get the tokenizer's special tokens; None: the tokenizer's own habit, as in lm-eval.
        batch_tokens: Most tokens in a batch; 0: what fits into the memory that the weights leave (`memory.limits`).
        batch_rows: Most requests in a batch; 0: as many as the tokens allow of those with options, DEFAULT_ROWS texts.
        weaken: Noise on what the model sees (`features:800`); None: none.
        contrast: Decoding that contrasts the clear with the weakened image (`1:0.2`); None: plain decoding.
    """

    adapter: str = ""
    backbone: bool = False
    dtype: str = ""
    device: str = "auto"
    device_map: str = ""
    attn: str = ""
    revision: str = ""
    template: str = MODEL_TEMPLATE
    vision_tower: str = ""
    base: str = ""
    add_bos: bool | None = None
    batch_tokens: int = 0
    batch_rows: int = 0
    weaken: Weaken | None = None
    contrast: Contrast | None = None


NAMES = tuple(HfOptions.__dataclass_fields__)


def parse(options: Options, local: bool) -> HfOptions:
    """Reads the options of one model.

    Args:
        options: As given with `-M`.
        local: The model is a folder, not a hub id.

    Raises:
        BadInput: Unknown key, a value that cannot be, or two options that exclude each other.
    """
    check_options("hf", options, NAMES)
    if options.get("adapter") == "":
        raise BadInput("-M adapter=: expected the folder of a PEFT adapter; leave it out to run without one")
    parsed = HfOptions(
        adapter=options.get("adapter", ""),
        backbone=parse_bool("backbone", options.get("backbone", "false")),
        dtype=_one_of("dtype", options.get("dtype", ""), DTYPES),
        device=_device(options.get("device", "auto")),
        device_map=options.get("device_map", ""),
        attn=_one_of("attn", options.get("attn", ""), ATTENTION),
        revision=options.get("revision", ""),
        template=options.get("template", MODEL_TEMPLATE),
        vision_tower=options.get("vision_tower", ""),
        base=options.get("base", ""),
        add_bos=None if options.get("add_bos", "auto") == "auto" else parse_bool("add_bos", options["add_bos"]),
        batch_tokens=parse_int("batch_tokens", options["batch_tokens"]) if "batch_tokens" in options else 0,
        batch_rows=parse_int("batch_rows", options["batch_rows"]) if "batch_rows" in options else 0,
        weaken=parse_weaken(options.get("weaken", "")),
        contrast=parse_contrast(options.get("contrast", "")),
    )
    templates.check_name(parsed.template, f"-M template={parsed.template}")
    if parsed.revision and local:
        raise BadInput(f"-M revision={parsed.revision}: a folder has no revisions; give a hub id, or leave it out")
    if parsed.device_map and parsed.device != "auto":
        raise BadInput("-M device= and -M device_map= exclude each other: give one of them")
    if parsed.adapter and not (Path(parsed.adapter) / "adapter_config.json").is_file():
        raise BadInput(f"-M adapter={parsed.adapter}: no PEFT adapter there (no adapter_config.json)")
    if parsed.contrast and not parsed.weaken:
        raise BadInput(f"-M contrast={options['contrast']}: against which weakened image? Give -M weaken= too")
    return parsed


def _one_of(key: str, value: str, allowed: tuple[str, ...]) -> str:
    if value and value not in allowed:
        raise BadInput(f"-M {key}={value}: unknown{did_you_mean(value, allowed)}; known: {', '.join(allowed)}")
    return value


def _device(value: str) -> str:
    if value.partition(":")[0] not in ("auto", "cpu", "cuda", "mps", "xpu"):
        raise BadInput(f"-M device={value}: expected auto, cpu, cuda, cuda:N, mps or xpu")
    return value


def resolve_device(options: HfOptions) -> str:
    """The device weights go to (`cuda` with a device map).

    Raises:
        BadInput: A device this machine has not.
    """
    import torch

    if options.device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        raise BadInput(f"-M device={options.device}: no CUDA device here; leave it out or give device=cpu")
    return options.device
