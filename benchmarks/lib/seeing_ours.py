"""Our sides of the image benchmarks, each in a process of its own, and how far they are from the machine's limit."""

from __future__ import annotations

import platform
import resource
import statistics
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from lib.llava_shape import LlavaShape
from lib.peers import peak_mib
from lib.seeing import read_questions


def asked(data: Path, new_tokens: int) -> list[Any]:
    """The questions as our requests."""
    from mmalign_eval.requests import Generate, GenParams, ImageRef, Prompt

    params = GenParams(max_new_tokens=new_tokens)
    return [
        Generate(Prompt(row["question"], images=(ImageRef(str(data / row["image"])),)), params)
        for row in read_questions(data)
    ]


def clocks() -> tuple[float, float]:
    """Seconds on the clock, and of the processor, image workers that have ended included."""
    gone = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.perf_counter(), time.process_time() + gone.ru_utime + gone.ru_stime


def ours(
    folder: Path, data: Path, new_tokens: int, work: Path, *, shared: bool = True, rows: int = 0
) -> dict[str, Any]:
    """Answers all questions as `mmeval run` does: keys, order, batches, the store's commits.

    Args:
        folder: With `model/`.
        data: With the questions.
        new_tokens: Of each answer.
        work: Folder for the store.
        shared: False: the slow twin, each question in a row of its own with its image.
        rows: Most requests of a batch; 0: the adapter's own limit.

    Returns:
        Seconds (`seconds` on the clock, `cpu` of the processor) from the loaded model to the last answer, peak memory
        in MiB, texts.
    """
    from mmalign_eval.engine import Engine, request_keys
    from mmalign_eval.models.opening import open_model
    from mmalign_eval.store import Store

    options = {"device": "cpu", "dtype": "float32"} | ({"batch_rows": str(rows)} if rows else {})
    adapter: Any = open_model(f"hf:{folder / 'model'}", options)
    requests, store = asked(data, new_tokens), Store(work / "store.sqlite")
    adapter.fingerprint()
    engine = Engine(adapter, store)
    engine._load()
    if not shared:
        adapter._alone = "the slow twin was asked for"
    wall, used = clocks()
    responses, stats = engine.run(requests, request_keys(adapter, requests))
    now, now_used = clocks()
    store.close()
    assert all(response.answered for response in responses), next(r for r in responses if not r.answered)
    assert all(response.new_tokens == new_tokens for response in responses)
    return {
        "seconds": now - wall, "cpu": now_used - used, "peak": peak_mib(), "texts": [r.text for r in responses],
        "prompt_tokens": stats.prompt_tokens, "batch_tokens": adapter.batch_tokens,
    }  # fmt: skip


def plain(folder: Path, data: Path, new_tokens: int, rows: int) -> dict[str, Any]:
    """A loop as one writes it by hand: the processor, and `generate` on batches padded on the left."""
    import torch
    from PIL import Image
    from transformers import AutoProcessor, LlavaForConditionalGeneration

    processor = AutoProcessor.from_pretrained(folder / "model")
    processor.tokenizer.padding_side = "left"
    model = LlavaForConditionalGeneration.from_pretrained(folder / "model", dtype=torch.float32).eval()
    questions, texts = read_questions(data), []
    wall, used = clocks()
    for start in range(0, len(questions), rows):
        some = questions[start : start + rows]
        turns = [{"type": "image"}, {"type": "text", "text": ""}]
        prompts = []
        for row in some:
            turns[1] = {"type": "text", "text": row["question"]}
            message = [{"role": "user", "content": turns}]
            prompts.append(processor.apply_chat_template(message, add_generation_prompt=True))
        images = [[Image.open(data / row["image"]).convert("RGB")] for row in some]
        inputs = processor(images=images, text=prompts, padding=True, return_tensors="pt")
        with torch.inference_mode():
            out = model.generate(**inputs, do_sample=False, max_new_tokens=new_tokens)
        texts += processor.batch_decode(out[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    now, now_used = clocks()
    return {"seconds": now - wall, "cpu": now_used - used, "peak": peak_mib(), "texts": texts}


def versions() -> dict[str, str]:
    """Of what our sides stand on."""
    return {name: version(name) for name in ("torch", "transformers")} | {"python": platform.python_version()}


def limit(shape: LlavaShape, folder: Path, data: Path, new_tokens: int) -> dict[str, float]:
    """The operations that distinct tokens need, and the seconds they take at the rate of this machine's matrices.

    A multiplication and an addition for each number of a matrix that a token goes through, in the tower without its
    last layer (what the projector gets is the layer before); in attention as many for key and value of each token that
    one looks at. Each stage's rate is measured on its own matrices with the rows of the batch; attention is reckoned at
    the rate of all together.

    Returns:
        `operations`, of these `in_matrices`; `rate` (a second) and `seconds`.
    """
    from mmalign_eval.models.opening import open_model
    from mmalign_eval.models.tree import build

    adapter: Any = open_model(f"hf:{folder / 'model'}", {"device": "cpu", "dtype": "float32"})
    requests = asked(data, new_tokens)
    prompts = [np.asarray(adapter.sequences(request)[0], np.int32) for request in requests]
    tree = build(prompts)
    images = len({request.prompt.images for request in requests})
    decoded = [len(prompt) + step for prompt in prompts for step in range(new_tokens - 1)]
    seen = int(np.flatnonzero(prompts[0] < 0)[-1]) + 1  # tokens up to the image's end: they stand in for it
    (width, mlp, layers, _), (wide, deep, count, _) = shape.vision, shape.language
    patches, each = shape.image_tokens, len(requests) // images
    tower = [(width, width)] * 4 + [(mlp, width), (width, mlp)]
    layer = [(wide, wide)] * 4 + [(deep, wide)] * 2 + [(wide, deep)]
    own = len(tree) - images * seen
    stages = [  # matrices, tokens that go through each, rows at once
        ([(width, 3 * shape.patch**2)], images * patches, patches),
        (tower * (layers - 1), images * (patches + 1), patches + 1),
        ([(wide, width), (wide, wide)], images * patches, patches),
        (layer * count, images * seen, seen),
        (layer * count, own, max(1, own // images)),
        (layer * count, len(decoded), each),
        ([(shape.vocabulary, wide)], len(requests) * new_tokens, each),
    ]
    matrices = sum(2.0 * tokens * sum(a * b for a, b in sizes) for sizes, tokens, _ in stages)
    spent = sum(tokens / rows * seconds(sizes, rows) for sizes, tokens, rows in stages if tokens)
    looked_at = float((tree.position + 1).sum()) + sum(at + 1 for at in decoded)
    attention = 4.0 * wide * count * looked_at + 4.0 * width * (layers - 1) * images * (patches + 1) ** 2
    rate = matrices / spent
    operations = matrices + attention
    return {"operations": operations, "in_matrices": matrices, "rate": rate, "seconds": operations / rate}


def seconds(sizes: Sequence[tuple[int, int]], rows: int) -> float:
    """Processor seconds for so many rows through all these matrices; medians of 7 after a first."""
    import torch

    known: dict[tuple[int, int], float] = {}
    for out, into in set(sizes):
        given, matrix, times = torch.randn(rows, into), torch.randn(out, into), []
        for _ in range(8):
            start = time.process_time()
            torch.nn.functional.linear(given, matrix)
            times.append(time.process_time() - start)
        known[out, into] = statistics.median(times[1:])
    return sum(known[size] for size in sizes)
