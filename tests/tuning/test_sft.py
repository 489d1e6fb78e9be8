"""A supervised stage against a plain loop written by hand; accumulation; what changes and what does not; the log."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from mmalign_eval.tuning import sft
from mmalign_eval.tuning.batches import Collate, LengthGroups, Row
from mmalign_eval.tuning.learnt import learnt_logps
from mmalign_eval.tuning.loading import load_llava
from mmalign_eval.tuning.lora import prepare, trainable_names
from mmalign_eval.tuning.trainer import LOG_FILE

from mmalign_eval.errors import ImageError
from tests.tuning.conftest import LlavaData, make_data
from tests.tuning.train_support import encoded, recipe, train, weights

CLOSE = {"rtol": 1e-5, "atol": 1e-5}  # rule 12: |a - b| <= 1e-5 max(1, |b|)


def log_of(work: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (work / LOG_FILE).read_text().splitlines()]


def step_batches(rows: list[Row], processor: Any, batch: int, steps: int) -> list[dict[str, torch.Tensor]]:
    """Whole batches of each step, in the training's order."""
    order = LengthGroups.of(rows, batch, 0)
    drawn: list[int] = []
    while len(drawn) < batch * steps:
        drawn += list(order)
        order.set_epoch(order.epoch + 1)
    collate = Collate(processor.tokenizer.pad_token_id, processor.image_processor)
    return [collate([rows[i] for i in drawn[k * batch : (k + 1) * batch]]) for k in range(steps)]


def test_training_equals_a_plain_loop(nano_llava: Path, llava_data: LlavaData, tmp_path: Path) -> None:
    """transformers' own forward with attention mask and full logits, AdamW and the cosine written out."""
    chosen = recipe(warmup=0.25, weight_decay=0.1, beta2=0.95, log_every=1, max_grad_norm=0.5)
    stage = chosen.tune
    trained, _ = train(nano_llava, llava_data, tmp_path, chosen)

    model, processor = load_llava(str(nano_llava))
    rows = encoded(llava_data, model, processor)
    prepare(model, chosen, "tune")
    model.train()
    named = {n: p for n, p in model.named_parameters() if p.requires_grad}
    decayed = [p for n, p in named.items() if "norm" not in n and "bias" not in n]
    plain = [p for n, p in named.items() if "norm" in n or "bias" in n]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=stage.lr, betas=(0.9, 0.95), eps=1e-8)
    losses, norms, rates = [], [], []
    for step, batch in enumerate(step_batches(rows, processor, 4, 8)):
        rate = step / 2 if step < 2 else 0.5 * (1 + math.cos(math.pi * (step - 2) / 6))
        for group in optimizer.param_groups:
            group["lr"] = stage.lr * rate
        logits = model(**{k: v for k, v in batch.items() if k != "labels"}).logits[:, :-1].float()
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch["labels"][:, 1:].flatten())
        optimizer.zero_grad(set_to_none=False)  # text-only batches: a zero, so that moments decay
        for parameter in named.values():
            parameter.grad = torch.zeros_like(parameter)
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(list(named.values()), 0.5).item())
        optimizer.step()
        losses.append(loss.item())
        rates.append(stage.lr * rate)
    logged = log_of(tmp_path)
    assert [entry["loss"] for entry in logged] == pytest.approx(losses, rel=1e-5, abs=1e-5)
    assert [entry["grad_norm"] for entry in logged] == pytest.approx(norms, rel=1e-4)
    assert [entry["learning_rate"] for entry in logged] == pytest.approx(rates, rel=1e-6, abs=1e-12)
    for name, value in named.items():
        torch.testing.assert_close(weights(trained)[name], value.detach(), **CLOSE, msg=lambda m, n=name: f"{n}: {m}")


def test_accumulated_2x1_equals_1x2(nano_llava: Path, llava_data: LlavaData, tmp_path: Path) -> None:
    """Rows of unlike length, some without image: a mean of micro-batches' means would differ."""
    whole, _ = train(nano_llava, llava_data, tmp_path / "1", recipe(micro_batch=4, log_every=1))
    parts, _ = train(nano_llava, llava_data, tmp_path / "2", recipe(micro_batch=1, log_every=1))
    one, two = (log_of(tmp_path / part) for part in "12")
    assert [e["loss"] for e in two] == pytest.approx([e["loss"] for e in one], rel=1e-5)
    assert [e["tokens"] for e in two] == [e["tokens"] for e in one]
    for name, value in weights(whole).items():
        torch.testing.assert_close(weights(parts)[name], value, **CLOSE)


@pytest.mark.parametrize(
    ("method", "stage"), [("mm-ft", "pretrain"), ("mm-ft", "tune"), ("mm-lora", "tune"), ("sft", "tune")]
)
def test_only_what_is_meant_to_changes(
    nano_llava: Path, llava_data: LlavaData, tmp_path: Path, method: str, stage: Any
) -> None:
    chosen = recipe(method, lora={"r": 4, "alpha": 8} if method == "sft" else None, max_steps=3)
    model, processor = load_llava(str(nano_llava))
    rows = encoded(llava_data, model, processor)
    if stage == "pretrain":
        rows = [row for row in rows if row.image is not None]
    before = weights(prepare(model, chosen, stage, 0))
    trained, _ = train(nano_llava, llava_data, tmp_path, chosen, stage, rows=rows)
    after = weights(trained)
    changed = {name for name in after if not torch.equal(after[name], before[name])}
    assert changed == trainable_names(trained, chosen, stage)


def test_learnt_log_probabilities_are_those_of_the_whole_model(nano_llava: Path, llava_data: LlavaData) -> None:
    model, processor = load_llava(str(nano_llava))
    rows = encoded(llava_data, model, processor)
    batch = Collate(processor.tokenizer.pad_token_id, processor.image_processor)(rows[:7])
    found, of = learnt_logps(model, model, batch)
    logps = model(**{k: v for k, v in batch.items() if k != "labels"}).logits[:, :-1].log_softmax(-1)
    labels = batch["labels"][:, 1:]
    wanted = [logps[r, c, labels[r, c]] for r, c in (labels != -100).nonzero()]
    torch.testing.assert_close(found, torch.stack(wanted), **CLOSE)
    assert of.tolist() == [int(r) for r, _ in (labels != -100).nonzero()]
    assert not model.lm_head._forward_pre_hooks


def test_without_image_the_projector_has_a_gradient_of_zero(nano_llava: Path, llava_data: LlavaData) -> None:
    model, processor = load_llava(str(nano_llava))
    rows = [row for row in encoded(llava_data, model, processor) if row.image is None]
    batch = Collate(processor.tokenizer.pad_token_id, processor.image_processor)(rows[:2])
    prepare(model, recipe(), "tune")
    logps, _ = learnt_logps(model, model, batch)
    (-logps.sum()).backward()
    gradients = [p.grad for p in model.model.multi_modal_projector.parameters()]
    assert all(gradient is not None and not gradient.any() for gradient in gradients)
    torch.testing.assert_close(
        logps.sum(), -model(**batch).loss * len(logps), **CLOSE
    )  # and nothing else is changed by it


@pytest.mark.slow
def test_projector_has_its_own_learning_rate(nano_llava: Path, llava_data: LlavaData, tmp_path: Path) -> None:
    chosen = recipe("mm-lora", projector_lr=1e-7, max_steps=2, schedule="constant", warmup=0)
    trained, done = train(nano_llava, llava_data, tmp_path, chosen)
    rates = {group["lr"]: len(group["params"]) for group in done.trainer.optimizer.param_groups if group["params"]}
    assert set(rates) == {1e-3, 1e-7}
    projector = load_llava(str(nano_llava))[0].model.multi_modal_projector.linear_1.weight
    copy = next(p for n, p in trained.named_parameters() if "modules_to_save" in n and "linear_1.weight" in n)
    assert 0 < (copy - projector).abs().max() <= 3e-7  # two Adam steps of 1e-7 each, rounded


def test_answers_are_logged_as_mean_and_deviation(nano_llava: Path, llava_data: LlavaData, tmp_path: Path) -> None:
    model, processor = load_llava(str(nano_llava))
    rows = encoded(llava_data, model, processor)
    chosen = recipe("sft", max_steps=1, log_every=1, lr=1e-9, micro_batch=1)
    train(nano_llava, llava_data, tmp_path, chosen, answers=True)
    (batch,) = step_batches(rows, processor, 4, 1)
    with torch.no_grad():
        logps, of = learnt_logps(model, model, batch)
    sums = torch.stack([logps[of == row].sum() for row in range(4)])
    (entry,) = log_of(tmp_path)
    assert entry["logps/chosen"] == pytest.approx(sums.mean().item(), rel=1e-5)
    assert entry["logps/chosen_sd"] == pytest.approx(sums.std().item(), rel=1e-5)
    assert entry["tokens"] == len(logps)


def test_gradient_checkpointing_changes_nothing_and_spares_the_tower(
    nano_llava: Path, llava_data: LlavaData, tmp_path: Path
) -> None:
    plain, _ = train(nano_llava, llava_data, tmp_path / "1", recipe(max_steps=2))
    saving, _ = train(nano_llava, llava_data, tmp_path / "2", recipe(max_steps=2, gradient_checkpointing=True))
    assert all(layer.gradient_checkpointing for layer in saving.model.language_model.layers)
    tower = [m for m in saving.model.vision_tower.modules() if hasattr(m, "gradient_checkpointing")]
    assert not any(module.gradient_checkpointing for module in tower)
    for name, value in weights(plain).items():
        torch.testing.assert_close(weights(saving)[name], value, **CLOSE)


@pytest.mark.slow
def test_no_bfloat16_gradient_is_rounded_away(nano_llava: Path, llava_data: LlavaData, tmp_path: Path) -> None:
    """On a CPU bfloat16 is in effect where asked for: weights stay float32, and move by less than a bf16 step."""
    chosen = recipe(precision="bf16", max_steps=2, lr=1e-6, schedule="constant", warmup=0)
    trained, done = train(nano_llava, llava_data, tmp_path, chosen)
    assert done.trainer.args.bf16
    assert {p.dtype for p in trained.parameters()} == {torch.float32}
    start = load_llava(str(nano_llava))[0].lm_head.weight
    moved = (trained.lm_head.weight - start).abs()
    assert 0 < moved.max() < 1e-5
    exact, _ = train(nano_llava, llava_data, tmp_path / "fp32", recipe(max_steps=2, lr=1e-6, schedule="constant"))
    assert not torch.equal(exact.lm_head.weight, trained.lm_head.weight)  # it was not float32 after all


@pytest.mark.slow
def test_workers_that_decode_images_change_nothing(
    nano_llava: Path, llava_data: LlavaData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU. Going on from a checkpoint is the same, too, and a broken image is told in one line."""
    chosen = recipe("mm-lora", lora={"r": 4, "alpha": 8.0, "dropout": 0.3}, max_steps=6)
    alone, _ = train(nano_llava, llava_data, tmp_path / "alone", chosen)
    monkeypatch.setattr(sft, "image_workers", lambda: 2)
    stopped = chosen.model_copy(update={"tune": chosen.tune.model_copy(update={"stop_after": 3})})
    train(nano_llava, llava_data, tmp_path / "workers", stopped)
    helped, _ = train(nano_llava, llava_data, tmp_path / "workers", chosen)
    other = weights(alone)
    assert all(torch.equal(value, other[name]) for name, value in weights(helped).items())

    data = make_data(tmp_path / "data")
    (data.images / data.rows[5]["image"]).write_bytes(b"no image")
    with pytest.raises(ImageError, match=rf"^image .*{data.rows[5]['image']} cannot be decoded") as caught:
        train(nano_llava, data, tmp_path / "broken", chosen)
    assert "\n" not in str(caught.value)
