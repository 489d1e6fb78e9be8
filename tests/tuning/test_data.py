"""LLaVA's files: what is read, put right, counted, drawn and refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from mmalign_eval.tuning.config import Data
from mmalign_eval.tuning.data import Counts, image_refs, read_conversations, used_images

from mmalign_eval.errors import BadInput
from mmalign_eval.images import digest, open_image
from mmalign_eval.requests import ImageRef
from tests.support import shared_data

from .conftest import LlavaData, draw, row, write_rows

HUMAN, GPT = ("human", "Q"), ("gpt", "A")


def said(*turns: tuple[str, Any], image: str | None = None, id_: str = "x") -> dict[str, Any]:
    conversations = [{"from": role, "value": text} for role, text in turns]
    return {"id": id_, "conversations": conversations, **({"image": image} if image is not None else {})}


def read(tmp_path: Path, rows: list[Any], counts: Counts | None = None, **options: Any) -> Any:
    draw(tmp_path / "images", 3)
    file = write_rows(tmp_path / options.pop("name", "rows.json"), rows)
    return read_conversations(file, tmp_path / "images", counts=counts, **options)


NAME = "000000001000.png"


# --- what is read ---


def test_rows_with_and_without_images(llava_data: LlavaData) -> None:
    counts = Counts()
    rows = read_conversations(llava_data.file, llava_data.images, counts=counts)
    assert [r.id for r in rows] == [r["id"] for r in llava_data.rows]
    assert [r.image is not None for r in rows] == ["image" in r for r in llava_data.rows]
    assert rows[0].image == ImageRef(str(llava_data.images / NAME))
    assert len(rows[1].turns) == 2
    assert rows[0].turns[0][0] == "Describe the image."
    assert counts.lines() == ["16 of 16 rows"]


def test_json_lines(tmp_path: Path, llava_data: LlavaData) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(json.dumps(r) for r in llava_data.rows), encoding="utf-8")
    whole = read_conversations(llava_data.file, llava_data.images)
    assert read_conversations(file, llava_data.images) == whole


@pytest.mark.parametrize("asked", ["<image>\nWhat?", "What?\n<image>", "What? <image>", " <image> What?\n"])
def test_the_image_is_taken_out_of_the_question_wherever_it_stands(tmp_path: Path, asked: str) -> None:
    (found,) = read(tmp_path, [said(("human", asked), GPT, image=NAME)])
    assert found.turns == (("What?", "A"),)


def test_other_questions_and_answers_stay_as_they_are(tmp_path: Path) -> None:
    (found,) = read(tmp_path, [said(("human", "Q <image>"), ("gpt", " A\n"), ("human", " Q2 "), ("gpt", "A2"))
                               | {"image": NAME}])  # fmt: skip
    assert found.turns == (("Q", " A\n"), (" Q2 ", "A2"))


def test_a_row_whose_text_does_not_show_the_image_has_it_all_the_same(tmp_path: Path) -> None:
    (found,) = read(tmp_path, [said(HUMAN, GPT, image=NAME)])
    assert found.image is not None


def test_numbers_are_ids_too_and_rows_without_have_their_place(tmp_path: Path) -> None:
    rows = [said(HUMAN, GPT, id_="x") | {"id": 7}, {"conversations": said(HUMAN, GPT)["conversations"]}]
    assert [r.id for r in read(tmp_path, rows)] == ["7", "1"]


# --- what is put right, and counted ---


def test_a_conversation_that_starts_with_the_assistant_loses_that_turn(tmp_path: Path) -> None:
    counts = Counts()
    (found,) = read(tmp_path, [said(("gpt", "Hello"), HUMAN, GPT)], counts)
    assert found.turns == (("Q", "A"),)
    assert counts.lines() == ["1 of 1 rows", "  1 changed: began with the assistant: its first turn dropped"]


def test_a_last_question_without_an_answer_is_dropped(tmp_path: Path) -> None:
    counts = Counts()
    (found,) = read(tmp_path, [said(HUMAN, GPT, HUMAN)], counts)
    assert found.turns == (("Q", "A"),)
    assert counts.changed == {"last question without an answer dropped": 1}


@pytest.mark.parametrize("turns", [(HUMAN,), (), (("gpt", "A"),), (HUMAN, ("gpt", " \n"))])
def test_rows_without_an_answered_question_are_dropped(tmp_path: Path, turns: Any) -> None:
    counts = Counts()
    assert [r.id for r in read(tmp_path, [said(*turns), said(HUMAN, GPT, id_="good")], counts)] == ["good"]
    assert (counts.read, counts.used, counts.dropped) == (2, 1, {"no answered question": 1})
    assert "  1 dropped: no answered question" in counts.lines()


def test_an_empty_answer_ends_the_conversation(tmp_path: Path) -> None:
    counts = Counts()
    (found,) = read(tmp_path, [said(HUMAN, GPT, HUMAN, ("gpt", ""), HUMAN, GPT)], counts)
    assert found.turns == (("Q", "A"),)
    assert counts.changed == {"cut at an empty answer": 1}


# --- what is refused ---


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([said(("human", "<image><image>\nQ"), GPT, image=NAME)], "row 0: <image> stands in it 2 times"),
        ([said(*(("human", "<image>Q"), GPT) * 2, image=NAME)], "row 0: <image> stands in it 2 times"),
        ([said(HUMAN, GPT), said(("human", "<image>Q"), GPT)], "row 1: <image> stands in it, but"),
        ([said(("human", "<image>\nQ"), GPT)], "row 0: <image> stands in it, but it names no image"),
        ([said(HUMAN, ("gpt", "see <image>"), image=NAME)], "row 0: <image> stands in an answer"),
        ([said(HUMAN, HUMAN, GPT)], "row 0: two turns from 'human' in a row"),
        ([said(("gpt", "A"), ("gpt", "A"), HUMAN, GPT)], "row 0: two turns from 'gpt' in a row"),
        ([said(("humam", "Q"), GPT)], "row 0: turn from 'humam' - did you mean 'human'"),
        ([said(("human", 3), GPT)], "row 0: value: expected text, found int"),
        ([said(HUMAN, GPT, image="")], "row 0: image: expected one file name"),
        ([said(HUMAN, GPT) | {"image": ["a.jpg"]}], "row 0: image: expected one file name"),
        ([{"id": "a"}], "row 0: field 'conversations' is missing; found id"),
        ([{"id": "a", "conversations": "hello"}], "row 0: conversations: expected a list"),
        ([{"id": "a", "conversations": [{"role": "human"}]}], "row 0: field 'from' is missing"),
        (["text"], "row 0: expected an object, found str"),
        ([], "no rows to train on: 0 read"),
        ([said(HUMAN)], "no rows to train on: 1 read, 1 no answered question"),
        ([said(HUMAN, GPT, image="../secret.png")], "is not inside the image folder"),
        ([said(HUMAN, GPT, image="/etc/secret.png")], "is not inside the image folder"),
    ],
)  # fmt: skip
def test_broken_rows_are_named(tmp_path: Path, rows: list[Any], message: str) -> None:
    with pytest.raises(BadInput, match=message) as caught:
        read(tmp_path, rows)
    assert "\n" not in str(caught.value)
    assert "rows.json" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [("{}", "expected a list of rows, found dict"), ("[{", ":1: not valid JSON"), ("", "not valid")],
)
def test_broken_files(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "rows.json"
    file.write_text(text)
    with pytest.raises(BadInput, match=message):
        read_conversations(file, None)
    with pytest.raises(BadInput, match="nowhere.json: no such file"):
        read_conversations(tmp_path / "nowhere.json", None)


def test_missing_images_are_found_before_any_training(tmp_path: Path) -> None:
    rows = [row(str(n), ("Q", "A"), image=f"{n}.png") for n in range(5)] + [row("x", ("Q", "A"), image=NAME)]
    with pytest.raises(BadInput, match=r"rows.json: 5 of 6 images are not in .*images: 0.png, 1.png, 2.png, \.\.\.$"):
        read(tmp_path, rows)


def test_images_need_their_folder(tmp_path: Path, llava_data: LlavaData) -> None:
    with pytest.raises(BadInput, match="its rows have images .* --images"):
        read_conversations(llava_data.file, None)
    with pytest.raises(BadInput, match="--images .*nowhere: no such folder"):
        read_conversations(llava_data.file, tmp_path / "nowhere")


# --- what a recipe asks for ---


def test_text_only_is_the_same_without_images(llava_data: LlavaData) -> None:
    seen = read_conversations(llava_data.file, llava_data.images)
    blind = read_conversations(llava_data.file, None, Data(text_only=True))
    assert [r.turns for r in blind] == [r.turns for r in seen]
    assert all(r.image is None for r in blind)


def test_samples_are_drawn_by_seed_in_the_files_order_and_fewer_are_part_of_more(llava_data: LlavaData) -> None:
    def drawn(samples: int, seed: int) -> list[str]:
        return [r.id for r in read_conversations(llava_data.file, llava_data.images, Data(samples=samples), seed)]

    order = [r["id"] for r in llava_data.rows]
    five = drawn(5, 0)
    assert five == drawn(5, 0) == sorted(five, key=order.index)
    assert five != drawn(5, 1)
    assert set(five) < set(drawn(9, 0))
    assert drawn(16, 3) == order
    counts = Counts()
    read_conversations(llava_data.file, llava_data.images, Data(samples=9), counts=counts)
    assert (counts.used, counts.dropped) == (9, {"not drawn": 7})
    with pytest.raises(BadInput, match="17 samples asked for, 16 there"):
        drawn(17, 0)


def test_images_of_rows_not_drawn_need_not_be_there(tmp_path: Path) -> None:
    rows = [row("gone_conv", ("Q", "A"), image="gone.png"), row("here_detail", ("Q", "A"), image=NAME)]
    (found,) = read(tmp_path, rows, data=Data(kinds=("detail",)))
    assert found.id == "here_detail"


def test_rows_of_held_out_images_and_too_long_answers_are_left_out(tmp_path: Path) -> None:
    names = draw(tmp_path / "images", 4)
    some = [row(str(i), ("What?", "A cup."), image=names[i % 4]) for i in range(8)]
    file = write_rows(tmp_path / "rows.json", [*some, row("long", ("What?", "w " * 9)), row("text", ("Why?", "So."))])
    counts = Counts()
    data = Data(max_words=8, held_out=0.25, text_only=True)
    kept = read_conversations(file, None, data, counts=counts)
    assert (len(kept), counts.dropped) == (7, {"over 8 words": 1, "held out": 2})
    assert kept[-1].id == "text"
    shown = read_conversations(file, tmp_path / "images", data.model_copy(update={"text_only": False}))
    assert [one.id for one in shown] == [one.id for one in kept]


def test_kinds_by_id(tmp_path: Path) -> None:
    endings = ("conv", "detail", "complex", "conversation", "reasoning", "other")
    rows = [row(f"1_{ending}", ("Q", "A")) for ending in endings]
    kinds = [r.kind for r in read(tmp_path, rows)]
    assert kinds == ["conversation", "detail", "reasoning", "conversation", "reasoning", ""]
    counts = Counts()
    found = read(tmp_path, rows, counts, data=Data(kinds=("detail", "reasoning")))
    assert [r.id for r in found] == ["1_detail", "1_complex", "1_reasoning"]
    assert counts.dropped == {"of another kind": 3}


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("conversation_58k.json", "conversation"),
        ("detail_23k.json", "detail"),
        ("complex_reasoning_77k.json", "reasoning"),
    ],
)
def test_kinds_by_file(tmp_path: Path, name: str, kind: str) -> None:
    (found,) = read(tmp_path, [row("000000442786", ("Q", "A"))], name=name)
    assert found.kind == kind


def test_kinds_that_nothing_tells(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="kinds detail asked for, but neither its name nor"):
        read(tmp_path, [row("1", ("Q", "A"))], data=Data(kinds=("detail",)))


def test_aspect_pad_pastes_on_a_square_of_clips_mean_colour(tmp_path: Path) -> None:
    (plain,) = read(tmp_path, [row("1", ("Q", "A"), image=NAME)])
    (padded,) = read(tmp_path, [row("1", ("Q", "A"), image=NAME)], aspect="pad")
    before, after = open_image(plain.image), open_image(padded.image)
    assert (before.size, after.size) == ((40, 30), (40, 40))
    assert after.getpixel((0, 4)) == after.getpixel((39, 35)) == (122, 116, 104)
    assert after.crop((0, 5, 40, 35)).tobytes() == before.tobytes()


def test_a_tall_image_is_padded_at_its_sides(tmp_path: Path) -> None:
    from PIL import Image

    from mmalign_eval.data.transforms import pad_square

    tall = Image.new("RGB", (3, 8), (1, 2, 3))
    after = pad_square(tall)
    assert after.size == (8, 8)
    assert [after.getpixel((x, 0)) == (1, 2, 3) for x in range(8)] == [False] * 2 + [True] * 3 + [False] * 3


# --- the record ---


def test_images_for_the_record(llava_data: LlavaData) -> None:
    rows = read_conversations(llava_data.file, llava_data.images)
    record = used_images(r.image for r in rows[:2])
    assert record["coco_ids"] == [1000, 1001]
    assert record["images"] == sorted(digest(ImageRef(str(llava_data.images / f"00000000100{n}.png"))) for n in (0, 1))
    assert used_images(r.image for r in rows)["coco_ids"] == list(range(1000, 1012))
    assert len(used_images(r.image for r in rows)["images"]) == 12
    gone = ImageRef(str(llava_data.images / "COCO_train2014_000000000009.jpg"))
    assert used_images([gone, None]) == {"coco_ids": [9], "images": []}
    assert used_images([None]) == {"coco_ids": [], "images": []}


def test_image_refs_of_other_files(llava_data: LlavaData) -> None:
    names = [NAME, NAME, "000000001001.png"]
    refs = image_refs(names, llava_data.images, Path("pairs.json"))
    assert [Path(ref.path).name for ref in refs] == names
    assert image_refs([], None, Path("pairs.json")) == []


# --- real rows ---


def test_real_rows() -> None:
    file = shared_data("instruct") / "llava_style_sample.json"
    counts = Counts()
    rows = read_conversations(file, None, Data(text_only=True), counts=counts)
    assert (counts.used, counts.dropped, counts.changed) == (90, {}, {})
    assert sorted({r.kind for r in rows}) == ["conversation", "detail", "reasoning"]
    assert not any("<image>" in text for r in rows for turn in r.turns for text in turn)
    assert len(read_conversations(file, None, Data(text_only=True, kinds=("detail",), samples=20))) == 20
