"""Rows for a trainer: encoded, collated to tensors, and ordered so that batches hold what is alike."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Sampler
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ..errors import BadInput
from ..images import open_image
from ..requests import ImageRef
from .data import Counts
from .encoding import Encoder, NotLearnable
from .rows import IGNORED, Conversation

Ids = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """One training sequence.

    Attributes:
        ids: Token ids `[length]`, image expanded.
        labels: Targets `[length]`, `IGNORED` where nothing is learnt.
        image: The image; None for text.
    """

    ids: Ids
    labels: Ids
    image: ImageRef | None = None


def encode_rows(conversations: Iterable[Conversation], encoder: Encoder, counts: Counts) -> list[Row]:
    """Encodes all conversations; those that cannot be learnt from are dropped and counted.

    Args:
        conversations: As `read_conversations` gave them.
        encoder: For the model's tokenizer.
        counts: Of `read_conversations`; `used` and `dropped` are brought up to date.

    Raises:
        BadInput: Nothing is left.
    """
    rows = []
    for conversation in conversations:
        try:
            encoded = encoder.conversation(conversation)
        except NotLearnable as error:
            counts.dropped[str(error)] += 1
            continue
        rows.append(Row(np.array(encoded.ids, np.int32), np.array(encoded.labels, np.int32), conversation.image))
    if not rows:
        why = "; ".join(f"{count} {reason}" for reason, count in counts.dropped.most_common())
        raise BadInput(f"no rows to train on: {why or 'none given'}")
    counts.used = len(rows)
    return rows


@dataclass(frozen=True)
class Collate:
    """Rows to tensors: padded on the right, images decoded and processed.

    Attributes:
        pad_id: Fills up shorter rows (masked out).
        image_processor: The checkpoint's (`processor.image_processor`).
    """

    pad_id: int
    image_processor: Any

    def __call__(self, rows: Sequence[Row]) -> dict[str, torch.Tensor]:
        """A batch.

        Returns:
            `input_ids`, `attention_mask`, `labels` `[rows, longest]` (int64), and, if any row has an image,
            `pixel_values` `[rows with image, 3, height, width]` in the rows' order.

        Raises:
            ImageError: An image is missing or damaged (the file is named).
        """
        shape = (len(rows), max(len(row.ids) for row in rows))
        batch = {
            "input_ids": torch.full(shape, self.pad_id),
            "attention_mask": torch.zeros(shape, dtype=torch.long),
            "labels": torch.full(shape, IGNORED),
        }
        for number, row in enumerate(rows):
            length = len(row.ids)
            batch["input_ids"][number, :length] = torch.from_numpy(row.ids)
            batch["attention_mask"][number, :length] = 1
            batch["labels"][number, :length] = torch.from_numpy(row.labels)
        refs = [row.image for row in rows if row.image is not None]
        if refs:
            batch["pixel_values"] = pixels(refs, self.image_processor)
        return batch


def pixels(refs: Sequence[ImageRef], image_processor: Any) -> torch.Tensor:
    """Images as the vision tower takes them: `[images, 3, height, width]`.

    Raises:
        ImageError: One is missing or damaged (the file is named).
    """
    images = [open_image(ref) for ref in refs]
    values: torch.Tensor = image_processor(images=images, return_tensors="pt")["pixel_values"]
    return values


class LengthGroups(Sampler[int]):
    """The order of an epoch: batches of an optimizer step drawn at random, each of one modality and sorted by length.

    It is LLaVA-1.5's grouping (`get_modality_length_grouped_indices`): which rows share a step is random, but a step
    holds rows with images or rows without, and its micro-batches hold rows of like length. What is left of either
    modality makes the last steps of the epoch. The last one is filled up from the epoch's beginning, so that an epoch
    is a whole number of steps.

    The order is a function of seed and epoch alone. Trainer's batches are consecutive runs of it: micro-batch k goes to
    process k mod (number of processes), so that a step sees the same rows whatever their number (2 processes with 1
    accumulation, or 1 process with 2). Resuming draws the epoch's order again and skips what was done. `EpochOrder`
    must be among the callbacks: to several processes that resume, accelerate does not pass the epoch on.
    """

    def __init__(
        self, lengths: Sequence[int], images: Sequence[bool], batch: int, seed: int, group: bool = True
    ) -> None:
        """An order.

        Args:
            lengths: Tokens of each row.
            images: Whether each row has an image.
            batch: Rows of an optimizer step, over all processes.
            seed: Of the training.
            group: Without, rows are only shuffled.
        """
        self.lengths, self.images, self.batch, self.seed, self.group = lengths, images, batch, seed, group
        self.epoch = 0

    @classmethod
    def of(cls, rows: Sequence[Row], batch: int, seed: int, group: bool = True) -> LengthGroups:
        """The order of encoded rows."""
        return cls([len(row.ids) for row in rows], [row.image is not None for row in rows], batch, seed, group)

    def set_epoch(self, epoch: int) -> None:
        """Says which epoch the next order is of."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Rows of an epoch, the last batch filled up."""
        return -(-len(self.lengths) // self.batch) * self.batch

    def __iter__(self) -> Iterator[int]:
        """The epoch's rows."""
        rng = np.random.Generator(np.random.Philox(key=[self.seed, self.epoch]))
        shuffled = [int(index) for index in rng.permutation(len(self.lengths))]
        if not self.group:
            return iter(self._filled(shuffled))
        whole: list[list[int]] = []
        rest: list[int] = []
        for modality in (True, False):
            own = [index for index in shuffled if self.images[index] == modality]
            cut = len(own) // self.batch * self.batch
            whole += [own[start : start + self.batch] for start in range(0, cut, self.batch)]
            rest += own[cut:]
        batches = [whole[int(index)] for index in rng.permutation(len(whole))]
        rest = self._filled(rest, [index for batch in batches for index in batch] + rest)
        batches += [rest[start : start + self.batch] for start in range(0, len(rest), self.batch)]
        return iter([index for batch in batches for index in sorted(batch, key=lambda i: -self.lengths[i])])

    def _filled(self, order: list[int], source: Sequence[int] = ()) -> list[int]:
        """An order made a whole number of batches long."""
        source = source or order
        lack = -len(order) % self.batch
        return order + [source[k % len(source)] for k in range(lack)]


class EpochOrder(TrainerCallback):
    """Tells a sampler which epoch begins, also after a resume."""

    def __init__(self, sampler: LengthGroups) -> None:
        self.sampler = sampler

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Before the epoch's first batch is drawn."""
        self.sampler.set_epoch(int(state.epoch or 0))
