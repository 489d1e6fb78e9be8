"""Rows to batches: encoded and counted, padded, images in place, the order of an epoch whatever runs it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmalign_eval.tuning.batches import Collate, EpochOrder, LengthGroups, Row, encode_rows
from mmalign_eval.tuning.config import Data
from mmalign_eval.tuning.data import Counts, read_conversations
from mmalign_eval.tuning.encoding import Encoder
from mmalign_eval.tuning.rows import IGNORED
from torch.utils.data import BatchSampler

from mmalign_eval.errors import BadInput, ImageError
from mmalign_eval.requests import ImageRef
from tests.support import shared_data

from .conftest import LlavaData

PAD_ID, IMAGE_ID, PATCHES = 0, 4, 4


@pytest.fixture(scope="module")
def processor(nano_llava: Path) -> Any:
    from transformers import AutoProcessor

    return AutoProcessor.from_pretrained(nano_llava)


@pytest.fixture(scope="module")
def encoder(processor: Any) -> Encoder:
    return Encoder(processor.tokenizer, "v1", IMAGE_ID, PATCHES, 512)


@pytest.fixture(scope="module")
def rows(llava_data: LlavaData, encoder: Encoder) -> list[Row]:
    return encode_rows(read_conversations(llava_data.file, llava_data.images), encoder, Counts())


# --- rows ---


def test_rows_that_cannot_be_learnt_are_dropped_and_counted(llava_data: LlavaData, processor: Any) -> None:
    counts = Counts()
    conversations = read_conversations(llava_data.file, llava_data.images, counts=counts)
    plain = Encoder(processor.tokenizer, "plain", IMAGE_ID, PATCHES, 512)
    found = encode_rows(conversations, plain, counts)
    assert len(found) == counts.used == 6  # six of the twelve with an image have one turn
    assert counts.dropped == {"template plain needs an image and one turn": 10}
    assert counts.as_json() == {"read": 16, "used": 6, "dropped": dict(counts.dropped), "changed": {}}


def test_nothing_left_is_an_error(llava_data: LlavaData, processor: Any) -> None:
    short = Encoder(processor.tokenizer, "v1", IMAGE_ID, PATCHES, 50)
    with pytest.raises(BadInput, match="no rows to train on: 12 image does not fit in 50 tokens; 4 nothing to learn"):
        encode_rows(read_conversations(llava_data.file, llava_data.images), short, Counts())


def test_real_rows_are_encoded_whole(processor: Any) -> None:
    file = shared_data("instruct") / "llava_style_sample.json"
    conversations = read_conversations(file, None, Data(text_only=True))
    tokenizer = processor.tokenizer
    found = encode_rows(conversations, Encoder(tokenizer, "v1", IMAGE_ID, PATCHES, 100_000), Counts())
    for conversation, row in zip(conversations, found, strict=True):
        learnt = [int(label) for label in row.labels if label != IGNORED]
        assert tokenizer.decode(learnt) == "".join(f" {answer}</s>" for _, answer in conversation.turns)


# --- tensors ---


def test_rows_are_padded_on_the_right(rows: list[Row], processor: Any) -> None:
    some = sorted(rows, key=lambda row: len(row.ids))[:: len(rows) // 3]
    batch = Collate(PAD_ID, processor.image_processor)(some)
    longest = max(len(row.ids) for row in some)
    assert len({len(row.ids) for row in some}) > 1
    for number, row in enumerate(some):
        length = len(row.ids)
        assert batch["input_ids"][number].tolist() == [*row.ids, *[PAD_ID] * (longest - length)]
        assert batch["labels"][number].tolist() == [*row.labels, *[IGNORED] * (longest - length)]
        assert batch["attention_mask"][number].tolist() == [1] * length + [0] * (longest - length)
    assert {batch[name].dtype for name in ("input_ids", "labels", "attention_mask")} == {torch.int64}


def test_pixels_are_those_of_the_rows_with_images_in_their_order(rows: list[Row], processor: Any) -> None:
    from PIL import Image

    collate = Collate(PAD_ID, processor.image_processor)
    some = rows[1:6]
    assert [row.image is None for row in some].count(True) == 1
    pixels = collate(some)["pixel_values"]
    shown = [Image.open(row.image.path).convert("RGB") for row in some if row.image]
    expected = processor.image_processor(images=shown, return_tensors="pt")["pixel_values"]
    assert torch.equal(pixels, expected)
    assert not torch.equal(pixels[0], pixels[1])


def test_text_only_batches_have_no_pixels(rows: list[Row], processor: Any) -> None:
    some = [row for row in rows if row.image is None]
    assert set(Collate(PAD_ID, processor.image_processor)(some)) == {"input_ids", "attention_mask", "labels"}


def test_mixed_batches_go_through_the_model_as_each_row_alone(
    rows: list[Row], processor: Any, nano_llava: Path
) -> None:
    from transformers import LlavaForConditionalGeneration

    model = LlavaForConditionalGeneration.from_pretrained(nano_llava, dtype=torch.float32).eval()
    collate = Collate(PAD_ID, processor.image_processor)
    some = rows[1:5]

    def losses(batch: dict[str, torch.Tensor]) -> torch.Tensor:
        labels = batch.pop("labels")[:, 1:]
        with torch.no_grad():
            logits = model(**batch).logits[:, :-1]
        each = torch.nn.functional.cross_entropy(logits.transpose(1, 2), labels, reduction="none")
        return each.sum(1)

    alone = torch.cat([losses(collate([row])) for row in some])
    torch.testing.assert_close(losses(collate(some)), alone, rtol=1e-5, atol=1e-5)
    other = [Row(some[0].ids, some[0].labels, some[1].image), *some[1:]]
    assert not torch.allclose(losses(collate(other))[0], alone[0])  # the image matters


@pytest.mark.parametrize("content", [b"no image at all", None])
def test_a_corrupt_image_is_named(tmp_path: Path, rows: list[Row], processor: Any, content: bytes | None) -> None:
    file = tmp_path / "broken.png"
    data = Path(rows[0].image.path).read_bytes() if rows[0].image else b""
    file.write_bytes(data[: len(data) // 2] if content is None else content)
    with pytest.raises(ImageError, match=r"broken\.png cannot be decoded") as caught:
        Collate(PAD_ID, processor.image_processor)([rows[0], Row(rows[0].ids, rows[0].labels, ImageRef(str(file)))])
    assert "\n" not in str(caught.value)


# --- order ---

SIZES = st.lists(st.tuples(st.integers(1, 60), st.booleans()), min_size=1, max_size=60)


@given(sizes=SIZES, batch=st.integers(1, 8), seed=st.integers(0, 5))
@settings(max_examples=150, deadline=None)
def test_an_epoch_sees_every_row_in_whole_batches(sizes: Any, batch: int, seed: int) -> None:
    lengths, images = [length for length, _ in sizes], [image for _, image in sizes]
    sampler = LengthGroups(lengths, images, batch, seed)
    order = list(sampler)
    assert len(order) == len(sampler) == -(-len(sizes) // batch) * batch
    seen = Counter(order)
    assert set(seen) == set(range(len(sizes)))
    assert sum(seen.values()) - len(seen) < batch  # only the last batch is filled up
    batches = [order[start : start + batch] for start in range(0, len(order), batch)]
    whole = sum(images) // batch + (len(images) - sum(images)) // batch
    for number, rows in enumerate(batches):
        assert [lengths[index] for index in rows] == sorted((lengths[index] for index in rows), reverse=True)
        if number < whole:
            assert len({images[index] for index in rows}) == 1
            assert len(set(rows)) == batch


def test_batches_are_drawn_not_sorted() -> None:
    """Which rows share a step is random: only inside of a step are rows sorted."""
    sampler = LengthGroups(list(range(1, 401)), [True] * 400, 8, 0)
    order = list(sampler)
    spans = [max(order[start : start + 8]) - min(order[start : start + 8]) for start in range(0, 400, 8)]
    assert sum(spans) / len(spans) > 200
    mixed = LengthGroups([5] * 400, [index % 2 == 0 for index in range(400)], 8, 0)
    modalities = [index % 2 for index in list(mixed)[::8]]
    assert 0 < sum(modalities[:25]) < 25  # images and text alternate at random


def test_the_order_depends_on_seed_and_epoch_alone() -> None:
    def order(seed: int, epoch: int, group: bool = True) -> list[int]:
        sampler = LengthGroups(list(range(1, 41)), [index % 3 > 0 for index in range(40)], 4, seed, group)
        sampler.set_epoch(epoch)
        assert list(sampler) == list(sampler)
        return list(sampler)

    assert order(0, 0) == order(0, 0)
    assert len({tuple(order(seed, epoch)) for seed in (0, 1) for epoch in (0, 1)}) == 4
    assert order(0, 0) != order(0, 0, group=False)
    assert sorted(order(0, 0, group=False)) == list(range(40))


@pytest.mark.parametrize("count", [32, 37])
def test_two_processes_see_the_rows_of_one_in_each_step(count: int) -> None:
    from accelerate.data_loader import BatchSamplerShard

    def steps(processes: int, accumulation: int, micro: int = 4) -> list[set[int]]:
        own = []
        for rank in range(processes):
            sampler = LengthGroups(list(range(1, count + 1)), [index % 2 > 0 for index in range(count)], 8, 0)
            own.append(list(BatchSamplerShard(BatchSampler(sampler, micro, False), processes, rank)))
        number = len(own[0]) // accumulation
        assert all(len(batches) == number * accumulation for batches in own)
        return [
            {i for batches in own for batch in batches[step * accumulation : (step + 1) * accumulation] for i in batch}
            for step in range(number)
        ]

    assert steps(2, 1) == steps(1, 2) == steps(1, 1, micro=8) == steps(4, 1, micro=2)


@pytest.mark.parametrize("processes", [1, 2])
def test_each_epoch_has_its_order_also_where_accelerate_does_not_tell(processes: int) -> None:
    from accelerate.data_loader import BatchSamplerShard, DataLoaderShard, skip_first_batches
    from transformers import TrainerControl, TrainerState, TrainingArguments

    def rest(told: int) -> list[int]:
        """What process 0 still sees of an epoch that is resumed after its first micro-batch."""
        sampler = LengthGroups([1] * 16, [True] * 16, 4, 0)
        batches: Any = BatchSampler(sampler, 2, False)
        if processes > 1:
            batches = BatchSamplerShard(batches, processes, 0)
        loader = skip_first_batches(DataLoaderShard(list(range(16)), batch_sampler=batches), 1)
        state, control = TrainerState(epoch=told + 0.25), TrainerControl()
        EpochOrder(sampler).on_epoch_begin(TrainingArguments(use_cpu=True), state, control)
        loader.set_epoch(told)  # as Trainer does
        return [int(index) for batch in loader for index in batch]

    expected = LengthGroups([1] * 16, [True] * 16, 4, 0)
    for epoch in (0, 1, 2):
        expected.set_epoch(epoch)
        order = list(expected)
        own = [order[start : start + 2] for start in range(0, 16, 2)][::processes]
        assert rest(epoch) == [index for batch in own[1:] for index in batch]


def trained_order(folder: Path, epochs: int, resume: bool, stop: int = 0) -> list[list[int]]:
    """The rows of each step of a real Trainer, four a step in two micro-batches, ten rows."""
    from transformers import Trainer, TrainerCallback, TrainingArguments

    sampler = LengthGroups([index % 5 + 1 for index in range(10)], [True] * 10, 4, 3)
    seen: list[list[int]] = []

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(()))

        def forward(self, index: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
            seen.append(index.tolist())
            return {"loss": self.weight * index.float().mean()}

    class Ordered(Trainer):
        def _get_train_sampler(self, train_dataset: Any = None) -> LengthGroups:
            return sampler

    class Stop(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            control.should_training_stop = state.global_step == stop

    arguments = TrainingArguments(
        output_dir=str(folder), per_device_train_batch_size=2, gradient_accumulation_steps=2, num_train_epochs=epochs,
        use_cpu=True, save_steps=1, report_to=[], disable_tqdm=True, remove_unused_columns=False, logging_steps=100,
    )  # fmt: skip
    trainer = Ordered(
        Model(), arguments, lambda rows: {"index": torch.tensor(rows), "labels": torch.tensor(rows)}, list(range(10)),
        callbacks=[EpochOrder(sampler), Stop()],
    )  # fmt: skip
    trainer.train(resume_from_checkpoint=resume or None)
    return [seen[start] + seen[start + 1] for start in range(0, len(seen), 2)]


def test_a_resumed_trainer_goes_on_in_the_same_order(tmp_path: Path) -> None:
    whole = trained_order(tmp_path / "whole", 3, resume=False)
    assert [len(step) for step in whole] == [4] * 9
    assert whole[:3] != whole[3:6]
    first = trained_order(tmp_path / "killed", 3, resume=False, stop=5)  # in the middle of the second epoch
    rest = trained_order(tmp_path / "killed", 3, resume=True)
    assert first + rest == whole
