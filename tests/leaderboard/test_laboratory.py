"""The laboratory's page: seeds pooled, claims tested by their rules, nothing confirmed off the judged scenes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmalign_eval.leaderboard.laboratory import FACTS, FOLDER, Results, laboratory_page
from mmalign_eval.leaderboard.markdown import page_text
from mmalign_eval.leaderboard.model import Page
from mmalign_eval.leaderboard.pages import read_results
from mmalign_eval.stats.paired import paired
from mmalign_eval.stats.pooled import pooled
from mmalign_eval.stats.sums import Sums

from ..support_results import ACCURACY, records, write_run

N = 200
ARMS = [{"name": "up", "about": "x", "seeds": 2}, {"name": "none", "seeds": 1}]
RNG = np.random.default_rng(0)
BASE = (RNG.random(N) < 0.5).astype(float)


def better(by: float, seed: int) -> list[float]:
    """The base's answers, a share of the wrong ones put right."""
    rng = np.random.default_rng(seed)
    return [1.0 if value or rng.random() < by else 0.0 for value in BASE]


def write(root: Path, name: str, values: Any) -> None:
    write_run(root / "results" / FOLDER, name, "toy", [ACCURACY], records(values))


def page(root: Path, *tests: dict[str, Any], judged: bool = True, **claim: Any) -> Page:
    facts = {"judged": judged, "commit": "c0ffee", "date": "today", "arms": ARMS}
    (root / "results" / FOLDER / FACTS).write_text(json.dumps(facts))
    column = {"key": "acc", "title": "accuracy", "task": "toy", "metric": "accuracy"}
    rows = [{"name": "base", "model": "base"}, {"name": "up", "model": "up"}, {"name": "not made", "model": "none"}]
    table = {"key": "t", "title": "T", "caption": "C", "base": "base", "columns": [column], "rows": rows}
    spec = {
        "title": "Toy", "intro": "toy", "summary": "Claims", "registered": "Fixed", "tables": [table],
        "claims": [{"title": "one", "level": 0.01, "rule": "rule", "tests": list(tests), **claim}],
    }  # fmt: skip
    runs, problems = read_results(root)
    assert problems == []
    return laboratory_page(spec, runs, root / "results" / FOLDER)


def expects(other: str, expect: str = "higher", **more: Any) -> dict[str, Any]:
    common = {"say": f"{other} {expect}", "base": "base", "task": "toy", "metric": "accuracy", "better": "higher"}
    return {**common, "other": other, "expect": expect, **more}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write(tmp_path, "base", BASE)
    write(tmp_path, "up-s0", better(0.4, 1))
    write(tmp_path, "up-s1", better(0.3, 2))
    write(tmp_path, "same-s0", BASE)
    write(tmp_path, "mixed-s0", better(0.6, 3))
    write(tmp_path, "mixed-s1", BASE)
    return tmp_path


def verdict(made: Page) -> str:
    (line,) = dict(made.lists)["Claims"]
    return line.removeprefix("one: ").removesuffix(".")


def test_a_rows_value_is_the_mean_over_seeds(root: Path) -> None:
    made = page(root, expects("up"))
    assert [row.model for row in made.tables[0].rows] == ["base", "up, mean of 2 seeds"]
    cell = made.tables[0].rows[1].cells["acc"]
    mean = 100 * (np.mean(better(0.4, 1)) + np.mean(better(0.3, 2))) / 2
    assert cell.value == pytest.approx(mean)
    assert cell.delta == pytest.approx(mean - 100 * BASE.mean())
    assert cell.significant


def test_a_metric_that_is_not_defined_for_an_arm_is_a_dash(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Resp at 60 % recall of an arm whose descriptions never name that much."""
    whole = Results.sums

    def none_reached(self: Results, arm: str, task: str) -> Sums:
        sums = whole(self, arm, task)
        zero = [replace(group, sums=group.sums * 0) for group in sums.groups]
        return replace(sums, groups=zero) if arm == "up" else sums

    monkeypatch.setattr(Results, "sums", none_reached)
    made = page(root, expects("same"))
    cell = made.tables[0].rows[1].cells["acc"]
    assert (cell.value, cell.delta) == (None, None)
    assert "nan" not in page_text(made)


def test_a_claim_is_confirmed_by_its_tests(root: Path) -> None:
    assert verdict(page(root, expects("up"))) == "confirmed"
    assert verdict(page(root, expects("up", "lower"))) == "refuted"
    assert verdict(page(root, expects("same"))) == "refuted"
    assert verdict(page(root, expects("up"), expects("same"))) == "refuted"


def test_every_seed_has_to_agree(root: Path) -> None:
    made = page(root, expects("mixed"))
    assert verdict(made) == "refuted"
    line = dict(made.lists)["one: refuted"][1]
    assert line.startswith("mixed higher: no, 44.0 to 60.5 (+16.5, ")
    assert ", +0.0;" in line  # the second seed's difference


def test_one_of_several_is_enough_where_the_claim_says_so(root: Path) -> None:
    assert verdict(page(root, expects("up", any="a"), expects("same", any="a"))) == "confirmed"


def test_a_margin_is_a_figure_and_no_test(root: Path) -> None:
    least = expects("same", least=-0.03)
    assert verdict(page(root, least)) == "confirmed"
    assert verdict(page(root, {**least, "least": 0.01})) == "refuted"
    family = dict(page(root, expects("up"), least).lists)["one: confirmed"]
    assert "p = " not in family[2]
    alone = dict(page(root, expects("up")).lists)["one: confirmed"]
    assert family[1] == alone[1]  # it does not count in Holm's family


def test_p_values_are_adjusted_over_the_claim(root: Path) -> None:
    line = dict(page(root, expects("up"), expects("same"), expects("mixed")).lists)["one: refuted"][1]
    assert "p = 0.0003" in line  # 10,000 draws, three tests


def test_nothing_is_confirmed_off_the_judged_scenes_or_without_results(root: Path) -> None:
    made = page(root, expects("up"), judged=False)
    assert verdict(made) == "not tested"
    assert "no claim is tested" in dict(made.lists)["Fixed"][0]
    assert verdict(page(root, expects("up"), expects("none"))) == "not tested"


def test_the_page_says_what_was_fixed(root: Path) -> None:
    fixed = dict(page(root, expects("up")).lists)["Fixed"]
    assert fixed == (
        "Arms and seeds of the scenes were fixed at commit c0ffee, today.", "up (x): 2 training seeds",
        "none: 1 training seed; not scored yet",
    )  # fmt: skip


def test_seeds_pooled_are_one_paired_test(root: Path) -> None:
    runs, _ = read_results(root)
    sums = [runs[f"{FOLDER}/up-s{seed}/toy"].sums for seed in (0, 1)]
    base = runs[f"{FOLDER}/base/toy"].sums
    both = paired(pooled([base, base]), pooled(sums), {"accuracy": "higher"})["accuracy"]
    each = [paired(base, one, {"accuracy": "higher"})["accuracy"].delta for one in sums]
    assert both.delta == pytest.approx(np.mean([delta for delta in each if delta is not None]))
    found = Results(runs).test("base", "up", "toy", "accuracy", "higher")
    assert found is not None
    assert found.delta == pytest.approx(both.delta)
    assert found.clusters == N


def test_results_of_other_samples_are_not_pooled(root: Path) -> None:
    write_run(root / "results" / FOLDER, "few", "toy", [ACCURACY], records(BASE[:50]))
    runs, _ = read_results(root)
    with pytest.raises(ValueError, match="other samples"):
        pooled([runs[f"{FOLDER}/{name}/toy"].sums for name in ("base", "few")])


def test_the_laboratorys_results_stay_on_their_page(root: Path) -> None:
    from mmalign_eval.leaderboard.pages import leaderboard

    board = leaderboard(root)
    assert board.page("miniature").title == "Both papers in miniature"
    assert {cell.origin for one in board.pages if one.name != "miniature" for *_, cell in one.cells()} == {"published"}
    assert "up-s0" not in board.files()["README.md"]
