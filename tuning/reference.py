"""The reference's log-probabilities: computed once for each pair, kept on disk, the same in every epoch and run.

The reference is the model as it was before: PEFT's adapter switched off (and with it a trained copy of the projector),
or, in full tuning, the weights before the first step. It cannot drift: nothing is computed after training has begun.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from ..errors import BadInput
from ..images import digest
from ..requests import ImageRef
from .bpo_pairs import Item
from .logprobs import PairIds

FILE = "reference-{writer}.jsonl"  # one for each process that writes
Logprobs = tuple[float, float]  # of the chosen and of the rejected answer


def key_of(ids: PairIds, image: ImageRef, base: str) -> str:
    """What the numbers depend on: the base (weights, precision), the image as shown, all token ids."""
    facts = [base, digest(image), image.transforms, ids.prompt, ids.chosen, ids.rejected]
    return hashlib.sha256(json.dumps(facts, separators=(",", ":")).encode()).hexdigest()


class References:
    """Log-probabilities by key, on disk and in memory.

    Args:
        folder: Every file in it is read; trainings of one base may share it, since keys hold all that matters.
        writer: Names this process' own file; no two that run at once may have the same.

    Raises:
        BadInput: A damaged file (a torn last line is not one: it is what a killed process leaves).
    """

    def __init__(self, folder: Path, writer: str = "0") -> None:
        self.folder, self.own = folder, folder / FILE.format(writer=writer)
        self.known: dict[str, Logprobs] = {}
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BadInput(f"{folder}: cannot be made: {error.strerror or error}") from error
        self.read()

    def read(self) -> None:
        """Takes in what is on disk."""
        for file in sorted(self.folder.glob(FILE.format(writer="*"))):
            lines = file.read_text(encoding="utf-8").split("\n")
            for number, line in enumerate(lines[:-1], start=1):  # after the last line break: nothing, or a torn line
                try:
                    key, chosen, rejected = json.loads(line)
                except ValueError as error:
                    raise BadInput(f"{file}: line {number} is damaged; delete the file to compute it again") from error
                self.known[key] = (chosen, rejected)

    def add(self, keys: Sequence[str], values: torch.Tensor) -> None:
        """Keeps the values `[len(keys), 2]` of a batch.

        Raises:
            BadInput: The disk is full, or a value is no number.
        """
        rows = [tuple(map(float, row)) for row in values.tolist()]
        if not bool(torch.isfinite(values).all()):
            raise BadInput("the base model gives NaN or infinite log-probabilities: try --set tune.precision=fp32")
        text = "".join(json.dumps([key, *row]) + "\n" for key, row in zip(keys, rows, strict=True))
        try:
            self._mend()
            with self.own.open("a", encoding="utf-8") as stream:
                stream.write(text)
        except OSError as error:
            raise BadInput(f"{self.own}: cannot be written: {error.strerror or error}") from error
        for key, row in zip(keys, rows, strict=True):
            self.known[key] = (row[0], row[1])

    def _mend(self) -> None:
        """Cuts off the torn line of a killed process, once."""
        if self._mended or not self.own.is_file():
            return
        content = self.own.read_bytes()
        if content and not content.endswith(b"\n"):
            with self.own.open("r+b") as stream:
                stream.truncate(content.rfind(b"\n") + 1)
        self._mended = True

    _mended = False


def fill(
    references: References,
    items: Sequence[Item],
    compute: Callable[[Sequence[Item]], torch.Tensor],
    batch: int,
    tell: Callable[[int, int], None],
    share: tuple[int, int] = (0, 1),
    together: bool = False,
) -> None:
    """Computes what is not known yet, image by image; each finished batch is on disk before the next.

    What is unknown is what the first process does not know: another training may be writing into a shared folder.

    Args:
        references: Where to.
        items: Pairs.
        compute: Log-probabilities `[n, 2]` of some of them under the base.
        batch: Pairs at once.
        tell: Called with (done, all) of this process.
        share: (rank, processes): which part this process computes.
        together: All processes must compute equally often (a sharded model's weights are gathered by all of them).
    """
    rank, processes = share
    keys = _of_first([item.key for item in items if item.key not in references.known])
    unknown = {item.key: item for item in items if item.key in keys}
    ordered = sorted(unknown.values(), key=lambda item: (item.image.path, item.ids.length, item.key))
    mine = ordered[len(ordered) * rank // processes : len(ordered) * (rank + 1) // processes]
    for done, some in enumerate(in_batches(mine, batch)):
        references.add([item.key for item in some], compute(some))
        tell(min((done + 1) * batch, len(mine)), len(mine))
    for _ in range(idle(len(ordered), len(mine), batch, processes) if together else 0):
        compute(ordered[:1])


def idle(items: int, mine: int, batch: int, processes: int) -> int:
    """By how many batches the `mine` of `items` that a process has are fewer than the most that one has."""
    most = -(-items // processes)
    return -(-most // batch) - -(-mine // batch)


def _of_first(keys: list[str]) -> set[str]:
    """What the first process has."""
    if not (dist.is_available() and dist.is_initialized()):
        return set(keys)
    box = [keys]
    dist.broadcast_object_list(box, src=0)
    return set(box[0])


@contextmanager
def switched_off(model: Any) -> Iterator[None]:
    """The model with its PEFT adapter off; a model without one as it is.

    PEFT also sets which parameters want gradients, as it would for a new adapter: that is undone.
    """
    if not hasattr(model, "disable_adapter"):
        yield
        return
    before = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    with model.disable_adapter():
        _want(before)
        yield
    _want(before)


def _want(gradients: list[tuple[Any, bool]]) -> None:
    for parameter, wanted in gradients:
        parameter.requires_grad_(wanted)


def in_batches(items: Sequence[Any], batch: int) -> Iterator[Sequence[Any]]:
    """Neighbours, `batch` at a time."""
    for start in range(0, len(items), batch):
        yield items[start : start + batch]
