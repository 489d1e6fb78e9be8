"""Which results are compared at all, and what is said of those that are not alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mmalign_eval.compare import Comparison, compare, compare_runs, model_runs
from mmalign_eval.compare.checks import NO_PROMPTS
from mmalign_eval.errors import BadInput

from ..support_results import ACCURACY, overlap, records, write_run

VALUES = [1, 0, 1, 1, 0, 1]


def write(folder: Path, model: str, task: str = "toy", **facts: Any) -> Path:
    return write_run(folder, model, task, [ACCURACY], records(VALUES), **{"rows": "r" * 64, **facts})


def compared(folder: Path, base: dict[str, Any], other: dict[str, Any], *, force: bool = False) -> Comparison:
    write(folder, "base", **base)
    write(folder, "other", **other)
    return compare(folder / "base", folder / "other", force=force)[0]


UNLIKE: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"version": 1}, {"version": 2}, "task version 1 against 2"),
    ({}, {"protocol": "paper"}, "protocol official against paper"),
    ({"judge": "rule"}, {"judge": "gpt-4-0613"}, "judge rule against gpt-4-0613"),
    ({"judge": "gpt-4"}, {"judge": "gpt-4", "judge_runs": 3}, "verdicts on an answer 1 against 3"),
    ({"shots": 5}, {"shots": 0}, "shots 5 against 0"),
    ({"extra": {"lm_eval": "0.4.13"}}, {"extra": {"lm_eval": "0.4.12"}}, "lm_eval 0.4.13 against 0.4.12"),
    ({}, {"extra": {"subset": "dev"}}, "subset none against dev"),
    ({"limit": 20}, {}, "samples the first 20 against all"),
    ({"rows": "1234567890"}, {"rows": "abcdefghij"}, "data 12345678 against abcdefgh"),
    ({"data_hash": "1234567890"}, {"data_hash": "abcdefghij"}, "images 12345678 against abcdefgh"),
    ({"prompt_hash": "1234567890"}, {"prompt_hash": "abcdefghij"}, "prompts 12345678 against abcdefgh"),
]


@pytest.mark.parametrize(("base", "other", "words"), UNLIKE, ids=[words for _, _, words in UNLIKE])
def test_what_is_not_alike_is_refused_by_name(
    tmp_path: Path, base: dict[str, Any], other: dict[str, Any], words: str
) -> None:
    with pytest.raises(BadInput) as error:
        compared(tmp_path, base, other)
    assert words in str(error.value)
    assert "--force" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("base", "other", "words"), UNLIKE, ids=[words for _, _, words in UNLIKE])
def test_force_compares_and_marks(tmp_path: Path, base: dict[str, Any], other: dict[str, Any], words: str) -> None:
    found = compared(tmp_path, base, other, force=True)
    (one,) = found.changes
    assert one.differs == (words,)
    assert one.paired.delta == 0
    assert any(note.endswith(f": {words}") for note in found.notes)


def test_equal_facts_are_alike(tmp_path: Path) -> None:
    facts = {"version": 3, "protocol": "paper", "judge": "gpt-4", "judge_runs": 3, "extra": {"a": 1}, "limit": 6}
    found = compared(tmp_path, facts, facts)
    assert found.changes[0].differs == ()
    assert found.notes == []


def test_every_difference_is_named_at_once(tmp_path: Path) -> None:
    write(tmp_path, "base", task="more")
    write(tmp_path, "other", task="more", shots=2)
    with pytest.raises(BadInput, match=r"more: shots 0 against 2; toy: task version 1 against 2, shots 0 against 5 - "):
        compared(tmp_path, {}, {"version": 2, "shots": 5})


def test_a_part_of_the_data_has_other_prompts_as_a_matter_of_course(tmp_path: Path) -> None:
    found = compared(
        tmp_path,
        {"limit": 6, "rows": "1", "data_hash": "2", "prompt_hash": "3"},
        {"rows": "4", "data_hash": "5", "prompt_hash": "6"},
        force=True,
    )
    assert found.changes[0].differs == ("samples the first 6 against all",)


def test_decoding_in_effect_is_marked_not_refused(tmp_path: Path) -> None:
    found = compared(
        tmp_path,
        {"params": {"temperature": 0.0, "num_beams": 3, "eos_token_ids": [2]}},
        {"params": {"temperature": 0.0, "num_beams": 1, "eos_token_ids": [128001]}},
    )
    assert found.changes[0].differs == ("decoding num_beams 3 against 1",)
    assert found.notes == ["toy: decoding num_beams 3 against 1"]


def test_answers_made_elsewhere_are_compared_by_their_rows(tmp_path: Path) -> None:
    elsewhere = {"prompt": "", "prompt_hash": NO_PROMPTS, "params": {}, "data_hash": "r" * 64}
    found = compared(tmp_path, {}, elsewhere)
    assert found.changes[0].differs == ()
    assert found.notes == ["toy: the answers of other were made elsewhere; their prompts are not known"]
    assert compared(tmp_path / "2", elsewhere, elsewhere).notes == []
    with pytest.raises(BadInput, match="data "):
        compared(tmp_path / "3", {}, {**elsewhere, "rows": "q" * 64})


def test_missing_answers_leave_equal_data_untold(tmp_path: Path) -> None:
    found = compared(tmp_path, {}, {"missing": 2, "rows": "other", "prompt_hash": NO_PROMPTS})
    assert "toy: other has no answer to 2 samples; that the data are equal cannot be told" in found.notes


def test_own_templates_are_told(tmp_path: Path) -> None:
    found = compared(tmp_path, {"prompt": "USER: x ASSISTANT:"}, {"prompt": "[INST] x [/INST]"})
    assert found.changes[0].differs == ()
    assert found.notes == ["toy: the same prompts, each in its model's own chat template"]


def test_tasks_of_one_alone_are_told(tmp_path: Path) -> None:
    write(tmp_path, "base", task="mine", protocol="paper")
    write(tmp_path, "other", task="theirs", judge="rule")
    found = compared(tmp_path, {}, {})
    assert found.notes == ["only base has results of mine@paper", "only other has results of theirs+rule"]
    assert [one.task for one in found.changes] == ["toy"]


def test_no_task_in_common_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "base", task="mine")
    write(tmp_path, "other", task="theirs")
    with pytest.raises(
        BadInput, match="base and other have no task in common: only base has results of mine; only oth"
    ):
        compare(tmp_path / "base", tmp_path / "other")


def test_equal_protocols_find_each_other_among_several(tmp_path: Path) -> None:
    for model, protocols in (("base", ("official", "paper")), ("other", ("lmms", "paper"))):
        for protocol in protocols:
            write(tmp_path, model, protocol=protocol)
    found = compare(tmp_path / "base", tmp_path / "other")[0]
    assert [(one.protocol, one.label) for one in found.changes] == [("paper", "toy@paper")]
    assert found.notes == ["only base has results of toy", "only other has results of toy@lmms"]


def test_of_unlike_protocols_and_judges_the_nearest_are_paired(tmp_path: Path) -> None:
    write(tmp_path, "base", judge="rule", protocol="paper")
    write(tmp_path, "base", judge="rule")
    write(tmp_path, "other", judge="gpt-4")
    found = compare(tmp_path / "base", tmp_path / "other", force=True)[0]
    assert [one.differs for one in found.changes] == [("judge rule against gpt-4",)]


def test_what_is_not_comparable_can_be_left_out(tmp_path: Path) -> None:
    for model, version in (("base", 1), ("other", 2)):
        write(tmp_path, model, task="old", version=version)
        write(tmp_path, model)
    base, other = (model_runs(tmp_path / name)[0] for name in ("base", "other"))
    found = compare_runs(base, other, skip=True)
    assert [one.task for one in found.changes] == ["toy"]
    assert found.notes == ["old is not compared: task version 1 against 2"]


def test_one_result_a_task_and_side(tmp_path: Path) -> None:
    base = model_runs(write(tmp_path / "1", "base"))[0] + model_runs(write(tmp_path / "2", "base"))[0]
    with pytest.raises(BadInput, match="two results of toy; give one of them"):
        compare_runs(base, base[:1])
    with pytest.raises(BadInput, match="nothing to compare"):
        compare_runs([], base[:1])


def test_images_trained_on_stand_in_a_note(tmp_path: Path) -> None:
    found = compared(tmp_path, {"contamination": overlap(3, 500)}, {"contamination": overlap(120, 500)})
    assert found.notes == [
        "toy: of the task's images, 3 of 500 were in the tuning of base; 120 of 500 were in the tuning of other"
    ]
    found = compared(tmp_path / "one", {}, {"contamination": overlap(0, 500)})
    assert found.notes == [
        "toy: of the task's images, 0 of 500 were in the tuning of other; what base was tuned on is not on record"
    ]
