"""lm-eval's full index: its own names, groups and tags."""

from __future__ import annotations

import pytest

from mmalign_eval.errors import BadInput
from mmalign_eval.lmeval import bind, open_lm_eval


@pytest.mark.slow
def test_the_real_index_opens_real_groups() -> None:
    task = open_lm_eval("mmlu", 5)
    assert len(task.parts) == 57
    bind(task)
    names = [m.name for m in task.metrics()]
    groups = ("mmlu", "mmlu_stem", "mmlu_other", "mmlu_social_sciences", "mmlu_humanities")
    assert names[:5] == [f"{group}/acc" for group in groups]
    assert "mmlu_anatomy/acc" in names
    assert list(open_lm_eval("hendrycks_ethics").parts) == [
        "ethics_cm", "ethics_deontology", "ethics_justice", "ethics_utilitarianism", "ethics_virtue"
    ]  # fmt: skip
    with pytest.raises(BadInput, match="did you mean 'hellaswag'"):
        open_lm_eval("helaswag")
