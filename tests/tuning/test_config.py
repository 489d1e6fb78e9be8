"""Recipes: read, extended, changed, refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from mmalign_eval.tuning.config import leaves, load_recipe, parse_recipe, recipe_names

from mmalign_eval.errors import BadInput

WHOLE = """
about: a test
method: mm-lora
language: miniature-lm
vision: miniature-clip
projector: linear
tune: {lr: 1.0e-4, batch: 8, micro_batch: 4}
lora: {r: 4, alpha: 8}
sources: {tune.lr: somewhere, lora: elsewhere, lora.r: paper}
"""


def written(folder: Path, text: str) -> str:
    file = folder / "own.yaml"
    file.write_text(text)
    return str(file)


def test_a_file_is_read_and_named_after(tmp_path: Path) -> None:
    recipe = load_recipe(written(tmp_path, WHOLE))
    assert (recipe.name, recipe.tune.lr, recipe.lora and recipe.lora.r) == ("own", 1e-4, 4)


def test_set_changes_a_value_and_says_so(tmp_path: Path) -> None:
    recipe = load_recipe(written(tmp_path, WHOLE), {"tune.lr": "1e-3", "data.samples": "7"})
    assert (recipe.tune.lr, recipe.data.samples) == (1e-3, 7)
    assert recipe.sources["tune.lr"] == recipe.sources["data.samples"] == "--set"


def test_extends_holds_what_differs_and_forgets_the_source_of_what_it_changes(tmp_path: Path) -> None:
    parent = load_recipe("mini-bpo")
    child = load_recipe(written(tmp_path, "extends: mini-bpo\npreference: {beta: 0.5}\n"))
    assert child.preference is not None
    assert parent.preference is not None
    assert child.preference.beta == 0.5
    assert child.data == parent.data
    assert child.tune == parent.tune
    assert "preference.beta" in parent.sources
    assert "preference.beta" not in child.sources
    assert child.sources["lora"] == parent.sources["lora"]


def test_null_takes_a_part_away(tmp_path: Path) -> None:
    child = load_recipe(
        written(tmp_path, "extends: mini-bpo\nmethod: sft\npreference: null\nlora: null\ntune: {eval_every: 0}\n")
    )
    assert child.preference is None
    assert child.lora is None
    assert not [key for key in child.sources if key.startswith(("preference", "lora"))]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("extends: mini-bpoo\n", r"extends: unknown recipe 'mini-bpoo'.*did you mean.*mini-bpo"),
        ("extends: mini-mm-lora\n", "extends mini-mm-lora, which itself extends mini-mm-ft"),
        (WHOLE + "lerning: 3\n", "unknown key lerning"),
        (WHOLE.replace("micro_batch: 4", "micro_bach: 4"), r"unknown key tune.micro_bach.*did you mean.*micro_batch"),
        (WHOLE.replace("micro_batch: 4", "micro_batch: 3"), "batch 8 is no multiple of micro_batch 3"),
        (WHOLE.replace("lr: 1.0e-4", "lr: -1"), "tune.lr: .*greater than 0"),
        (WHOLE.replace("mm-lora", "mm-ft"), "`lora` does not belong"),
        (WHOLE.replace("mm-lora", "bpo"), "`preference` belongs to method bpo"),
        (WHOLE.replace("lora.r: paper", "lora.rank: paper"), "sources: lora.rank is no key"),
        (WHOLE.replace("lr: 1.0e-4", "lr: .inf"), "tune.lr: .*finite"),
        (WHOLE.replace("batch: 8", "epochs: .inf, batch: 8"), "tune.epochs: .*finite"),
        (WHOLE.replace("sources: {", "sources: [{").replace("paper}", "paper}]"), "sources: "),
        ("extends: mini-bpo\nsources: [paper]\n", "recipe own: sources: expected keys of the recipe"),
        (WHOLE.replace("batch: 8", "eval_every: 2, batch: 8"), "eval_every: only bpo evaluates"),
        ("extends: mini-bpo\ndata: {held_out: 0}\n", "tune.eval_every needs pairs to evaluate on"),
        ("just words\n", "expected keys and values"),
        ("tune: [1\n", "not valid YAML"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(BadInput, match=said) as caught:
        load_recipe(written(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_set_of_an_unknown_key_is_refused() -> None:
    with pytest.raises(BadInput, match=r"unknown key tune.lrr; did you mean|unknown key tune.lrr"):
        load_recipe("mini-bpo", {"tune.lrr": "1"})
    with pytest.raises(BadInput, match="--set method.x: method has no keys inside"):
        load_recipe("mini-bpo", {"method.x": "1"})
    with pytest.raises(BadInput, match=r"--set tune.lr=\[1: not valid YAML"):
        load_recipe("mini-bpo", {"tune.lr": "[1"})


def test_no_such_file_or_name() -> None:
    with pytest.raises(BadInput, match="no such file"):
        load_recipe("nowhere/x.yaml")
    with pytest.raises(BadInput, match="unknown recipe 'mini-dpo'"):
        load_recipe("mini-dpo")


def test_leaves_and_parse() -> None:
    assert list(leaves({"a": {"b": 1, "c": 2}, "d": 3})) == ["a.b", "a.c", "d"]
    with pytest.raises(BadInput, match="^here: "):
        parse_recipe({}, "here")


def test_the_miniatures_are_there() -> None:
    assert {"mini-mm-ft", "mini-mm-lora", "mini-bpo", "mini-sft"} <= set(recipe_names())
