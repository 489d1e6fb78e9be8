"""How many tokens go into a batch: what a model's shapes say a token takes, against the memory that is free.

It is asked once the weights are there. What is wrong in it the engine puts right: a batch that does not fit is halved.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Left to others: on a host to other processes, decoded images and the allocator's own gaps; on an accelerator, which
# is mostly one process's, to fragmentation and the kernels' workspaces.
HOST_SHARE, DEVICE_SHARE = 0.5, 0.8
LEAST_TOKENS = 256  # with less a batch is a request or two; a single one that does not fit is an error of its own
UNKNOWN_TOKENS = 16_384  # where the free memory cannot be read: what a 7B model in half precision takes in 24 GB
_CONTEXT = 2048  # tokens of a sequence for which a mask's size is reckoned
_ROOM = 1.25  # caches that grow have room for a quarter more (`kv.GrowingLayer`)


@dataclass(frozen=True)
class Cost:
    """Bytes that a batch takes beside the weights.

    Attributes:
        kept: Keys and values of one position, over all layers.
        passing: What a token on its way through one layer takes, at its peak.
        logits: Scores of one position.
    """

    kept: int
    passing: int
    logits: int


@dataclass(frozen=True)
class Limits:
    """What goes through the model at once.

    Attributes:
        tokens: Most tokens in a batch: rows times the longest, prompt and new.
        pass_tokens: Most in one pass through the model that may give logits for all of them.
    """

    tokens: int
    pass_tokens: int


def limits(model: Any, most: int, rows: int, twice: bool = False) -> Limits:
    """What fits into the memory that is free now.

    Args:
        model: With its weights.
        most: Upper limit of the tokens in a batch.
        rows: Most texts decoded together.
        twice: Each text has two caches (contrastive decoding).
    """
    free = free_for(model)
    if free is None:
        return Limits(min(most, UNKNOWN_TOKENS), min(most, UNKNOWN_TOKENS))
    cost = cost_of(model)
    kept = int(cost.kept * _ROOM) * (2 if twice else 1)
    decoding = free - rows * 4 * cost.logits  # scores of a step: as given, as float, masked, compared
    tokens = max(LEAST_TOKENS, min(most, decoding // (kept + cost.passing)))
    # A pass goes on from keys and values that are held, which may be as many as its own tokens.
    pass_tokens = max(LEAST_TOKENS, min(tokens, free // (2 * kept + cost.passing + cost.logits)))
    return Limits(tokens, pass_tokens)


def cost_of(model: Any) -> Cost:
    """What a token takes, from the configuration's shapes.

    Keys and values: 2 x layers x key-value heads x head's width. On its way, in the feed-forward part: gate, up and
    their product (3 x intermediate), the residual and its normed copy; in attention: queries, keys, values, their
    rotated copies and, where key-value heads are shared, those repeated; a mask over the context (or, in eager
    attention, each head's scores and their softmax in float32).
    """
    config = model.config.get_text_config(decoder=True)
    size, hidden = model.dtype.itemsize, int(config.hidden_size)
    heads = int(getattr(config, "num_attention_heads", 0) or 1)
    groups = int(getattr(config, "num_key_value_heads", 0) or heads)
    width = int(getattr(config, "head_dim", 0) or hidden // heads)
    kept = 2 * int(config.num_hidden_layers) * groups * width * size
    passing = _passing(config, size)
    if groups < heads:
        passing += 2 * heads * width * size
    context = min(_CONTEXT, int(getattr(config, "max_position_embeddings", 0) or _CONTEXT))
    eager = model.config._attn_implementation == "eager"
    passing += context * (heads * (size + 4 + size) if eager else 1 + size)
    return Cost(kept, passing + _seeing(model.config, size), int(config.vocab_size) * (size + 4))


def _passing(config: Any, size: int) -> int:
    """A token in a layer: its widest moment, and the residual with normed copies, in float32 for half types."""
    hidden = int(config.hidden_size)
    inner = next((int(getattr(config, n)) for n in ("intermediate_size", "ffn_dim", "ffn_hidden_size", "n_inner")
                  if getattr(config, n, None)), 4 * hidden)  # fmt: skip
    return max(3 * inner, 6 * hidden) * size + 4 * hidden * size + 2 * hidden * 4


def _seeing(config: Any, size: int) -> int:
    """What an image token takes in the vision tower: its patches' pixels, and all hidden states, for one is chosen."""
    vision = getattr(config, "vision_config", None)
    if vision is None or not getattr(vision, "hidden_size", None) or not isinstance(vision.hidden_size, int):
        return 0
    patch, side = getattr(vision, "patch_size", 14), getattr(vision, "image_size", 0)
    if not (isinstance(patch, int) and isinstance(side, int)):
        patch, side = 14, 0
    layers = int(getattr(vision, "num_hidden_layers", 0) or getattr(vision, "depth", 0))
    one = _passing(vision, size) + (layers + 1) * int(vision.hidden_size) * size + 2 * 3 * patch * patch * 4
    tokens = int(getattr(config, "mm_tokens_per_image", 0) or 0)  # of models that pool their patches
    pooled = max(1, (side // patch) ** 2 // tokens) if tokens else 1
    return one * pooled


# -- what is free ---------------------------------------------------------------------------------------------------


def free_for(model: Any) -> int | None:
    """Bytes that a batch of this model may take; None where it cannot be told.

    Of a model that is spread over devices, each is taken to hold an equal part of the keys and values.
    """
    devices = {parameter.device for parameter in model.parameters()}
    if any(device.type == "cpu" for device in devices):
        found = host_free()
        return None if found is None else int(HOST_SHARE * found)
    if any(device.type != "cuda" for device in devices):
        return None
    return int(DEVICE_SHARE * min(_cuda_free(device) for device in devices)) * len(devices)


def _cuda_free(device: Any) -> int:
    import torch

    free, _ = torch.cuda.mem_get_info(device)
    return int(free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device))


def host_free(root: Path = Path("/")) -> int | None:
    """Bytes of memory that this process may still take: the least of what machine, container and `ulimit` leave."""
    found = [*_machine(root), *_container(root), *_process(root)]
    return max(0, min(found)) if found else None


def _machine(root: Path) -> Iterator[int]:
    for line in _lines(root / "proc/meminfo"):
        if line.startswith("MemAvailable:"):
            yield int(line.split()[1]) * 1024


def _container(root: Path) -> Iterator[int]:
    """What the control groups that this process is in leave; page cache that can be given back is not taken."""
    names = {"": ("memory.max", "memory.current", "inactive_file"),
             "memory": ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")}  # fmt: skip
    for line in _lines(root / "proc/self/cgroup"):
        _, kind, own = line.split(":", 2)
        if kind not in names:
            continue
        limit, used, cache = names[kind]
        top = root / "sys/fs/cgroup" / kind
        group = top / own.strip("/")
        for folder in [group, *(parent for parent in group.parents if parent == top or top in parent.parents)]:
            most, now = _lines(folder / limit), _lines(folder / used)
            if most and now and most[0].isdigit():
                known = dict(line.split() for line in _lines(folder / "memory.stat"))
                yield int(most[0]) - int(now[0]) + int(known.get(cache, 0))


def _process(root: Path) -> Iterator[int]:
    """What `ulimit -v` leaves of the address space."""
    import resource

    most, _ = resource.getrlimit(resource.RLIMIT_AS)
    pages = _lines(root / "proc/self/statm")
    if most != resource.RLIM_INFINITY and pages:
        yield most - int(pages[0].split()[0]) * os.sysconf("SC_PAGE_SIZE")


def _lines(file: Path) -> list[str]:
    """A file's lines; none where there is no such file, as on other systems and in other kinds of group."""
    try:
        return file.read_text().splitlines()
    except OSError:
        return []
