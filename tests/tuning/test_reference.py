"""Reference log-probabilities on disk: once for each pair, whatever is killed in between."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from mmalign_eval.tuning.bpo_pairs import Item
from mmalign_eval.tuning.loading import load_llava
from mmalign_eval.tuning.logprobs import PairIds
from mmalign_eval.tuning.lora import prepare
from mmalign_eval.tuning.reference import References, fill, idle, key_of, switched_off
from mmalign_eval.tuning.rows import Pair

from mmalign_eval.errors import BadInput
from mmalign_eval.miniature.nano import make_llava
from mmalign_eval.requests import ImageRef

from .bpo_support import recipe


def item(number: int) -> Item:
    ids = PairIds((1, number), (2,) * (number % 3 + 1), (3,))
    return Item(Pair(str(number), "", "", "", ""), ids, ImageRef(f"{number % 2}.png"), f"key{number}")


class Computer:
    """Stands for the model; dies after some batches if told to."""

    def __init__(self, batches: int = 1000) -> None:
        self.asked: list[str] = []
        self.left = batches

    def __call__(self, items: Sequence[Item]) -> torch.Tensor:
        if not self.left:
            raise KeyboardInterrupt
        self.left -= 1
        self.asked += [i.key for i in items]
        return torch.tensor([[-0.1 * int(i.key[3:]) - 1 / 3, -2.0] for i in items])


def test_killed_and_filled_again_computes_each_pair_once(tmp_path: Path) -> None:
    items = [item(i) for i in range(10)]
    first, second = Computer(2), Computer()
    with pytest.raises(KeyboardInterrupt):
        fill(References(tmp_path), items, first, 3, lambda done, whole: None)
    told: list[tuple[int, int]] = []
    again = References(tmp_path)
    fill(again, items, second, 3, lambda done, whole: told.append((done, whole)))
    assert sorted(first.asked + second.asked) == sorted(i.key for i in items)
    assert told == [(3, 4), (4, 4)]
    last = References(tmp_path)
    assert last.known == again.known
    assert last.known["key7"] == tuple(Computer()([item(7)])[0].tolist())  # to the last bit
    third = Computer()
    fill(last, items, third, 3, lambda done, whole: None)
    assert third.asked == []


def test_processes_share_the_work_and_read_each_other(tmp_path: Path) -> None:
    items = [item(i) for i in range(7)]
    asked = []
    for rank in (0, 1):
        own = References(tmp_path, str(rank))
        own.known.clear()  # they begin at the same time
        computer = Computer()
        fill(own, items, computer, 2, lambda done, whole: None, (rank, 2))
        asked.append(computer.asked)
    assert sorted(asked[0] + asked[1]) == sorted(i.key for i in items)
    assert asked[0]
    assert asked[1]
    assert len(References(tmp_path).known) == 7


def test_a_torn_line_is_cut_off_and_a_damaged_one_refused(tmp_path: Path) -> None:
    fill(References(tmp_path), [item(0), item(1)], Computer(), 1, lambda done, whole: None)
    file = tmp_path / "reference-0.jsonl"
    whole = file.read_bytes()
    file.write_bytes(whole[:-9])
    torn = References(tmp_path)
    assert len(torn.known) == 1
    fill(torn, [item(0), item(1)], Computer(), 1, lambda done, whole: None)
    assert file.read_bytes() == whole
    file.write_bytes(b"{}\n" + whole)
    with pytest.raises(BadInput, match="line 1 is damaged; delete the file"):
        References(tmp_path)


def test_what_is_no_number_is_not_kept(tmp_path: Path) -> None:
    references = References(tmp_path)
    with pytest.raises(BadInput, match="NaN or infinite"):
        references.add(["a"], torch.tensor([[float("nan"), 1.0]]))
    assert not (tmp_path / "reference-0.jsonl").exists()


def test_the_key_holds_all_that_can_change_the_number(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"a")
    (tmp_path / "b.png").write_bytes(b"b")
    (tmp_path / "c.png").write_bytes(b"a")
    image = ImageRef(str(tmp_path / "a.png"))
    ids = PairIds((1, 2), (3,), (4,))
    keys = [
        key_of(ids, image, "base"),
        key_of(ids, image, "other"),
        key_of(ids, ImageRef(str(tmp_path / "b.png")), "base"),
        key_of(ids, ImageRef(image.path, transforms=("pad_square",)), "base"),
        key_of(PairIds((1, 2), (4,), (3,)), image, "base"),
        key_of(PairIds((1,), (3,), (4,)), image, "base"),
    ]
    assert len(set(keys)) == len(keys)
    assert key_of(ids, ImageRef(str(tmp_path / "c.png")), "base") == keys[0]


@pytest.mark.parametrize(("items", "batch", "processes"), [(7, 1, 2), (7, 2, 2), (8, 3, 3), (1, 4, 4), (0, 2, 2)])
def test_processes_of_a_sharded_model_run_it_equally_often(
    tmp_path: Path, items: int, batch: int, processes: int
) -> None:
    times = []
    for rank in range(processes):
        own = References(tmp_path / str(rank), str(rank))
        ran: list[int] = []

        def compute(some: Sequence[Item], ran: list[int] = ran) -> torch.Tensor:
            ran.append(len(some))
            return torch.zeros(len(some), 2)

        fill(own, [item(i) for i in range(items)], compute, batch, lambda d, w: None, (rank, processes), together=True)
        times.append(len(ran))
        assert len(own.known) == sum(ran[: len(ran) - idle(items, len(own.known), batch, processes)])
    assert len(set(times)) == 1


def test_switching_an_adapter_off_changes_nothing_that_trains(tmp_path: Path) -> None:
    """A linear projector has an identity for its second layer, which must stay one."""
    llava, _ = load_llava(str(make_llava(tmp_path, projector="linear")))
    model = prepare(llava, recipe(preference={"train_projector": True}), "tune", 0)
    wanted = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    with switched_off(model):
        assert {name: parameter.requires_grad for name, parameter in model.named_parameters()} == wanted
    assert {name: parameter.requires_grad for name, parameter in model.named_parameters()} == wanted
