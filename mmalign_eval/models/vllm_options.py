"""The `-M` options of `vllm:` models."""

from __future__ import annotations

from dataclasses import dataclass

from .. import templates
from ..errors import BadInput, did_you_mean
from ..requests import MODEL_TEMPLATE
from .base import Options, check_options, parse_bool, parse_int
from .hf_options import DTYPES, HfOptions


@dataclass(frozen=True)
class VllmOptions:
    """Parsed options; the names are those of `-M`.

    Attributes:
        dtype: Weights' type; empty: float32 on CPU, the checkpoint's own elsewhere.
        revision: Branch, tag or commit of a hub repository; empty: its main branch.
        template: Named template used where a prompt asks for the checkpoint's own.
        add_bos: Whether texts get the tokenizer's special tokens; None: the tokenizer's own habit, as in lm-eval.
        max_length: Most tokens of a sequence; 0: as many as the model takes.
        kv_cache_gb: Memory for keys and values, GiB; 0: vLLM's choice on a GPU, `vllm_engine.CPU_CACHE_GB` on CPU.
    """

    dtype: str = ""
    revision: str = ""
    template: str = MODEL_TEMPLATE
    add_bos: bool | None = None
    max_length: int = 0
    kv_cache_gb: int = 0

    def for_tokens(self) -> HfOptions:
        """What of it decides token ids and the weights' type, as `hf:` takes it."""
        return HfOptions(dtype=self.dtype, revision=self.revision, template=self.template, add_bos=self.add_bos)


NAMES = tuple(VllmOptions.__dataclass_fields__)


def parse(options: Options, local: bool) -> VllmOptions:
    """Reads the options of one model.

    Args:
        options: As given with `-M`.
        local: The model is a folder, not a hub id.

    Raises:
        BadInput: Unknown key, or a value that cannot be.
    """
    check_options("vllm", options, NAMES)
    dtype = options.get("dtype", "")
    if dtype and dtype not in DTYPES:
        raise BadInput(f"-M dtype={dtype}: unknown{did_you_mean(dtype, DTYPES)}; known: {', '.join(DTYPES)}")
    parsed = VllmOptions(
        dtype=dtype,
        revision=options.get("revision", ""),
        template=options.get("template", MODEL_TEMPLATE),
        add_bos=None if options.get("add_bos", "auto") == "auto" else parse_bool("add_bos", options["add_bos"]),
        max_length=_number("max_length", options),
        kv_cache_gb=_number("kv_cache_gb", options),
    )
    templates.check_name(parsed.template, f"-M template={parsed.template}")
    if parsed.revision and local:
        raise BadInput(f"-M revision={parsed.revision}: a folder has no revisions; give a hub id, or leave it out")
    return parsed


def _number(key: str, options: Options) -> int:
    return parse_int(key, options[key]) if key in options else 0
