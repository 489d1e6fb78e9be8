"""Scripts that say something wrong are refused in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmalign_eval.errors import BadInput
from mmalign_eval.models.scripted import open_model


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("- {match: '(', text: x}", "rule 1: match is no regular expression"),
        ("- {match: 3, text: x}", "rule 1: match is no regular expression"),
        ("- {text: x}\n- {oom: many}", "rule 2: oom: expected a whole number"),
        ("- {choose: first}", "rule 1: choose: expected a whole number"),
        ("- {txt: x}", "rule 1 has unknown key 'txt'"),
        ("text: x", "expected a list of rules"),
        ("[", "not valid YAML"),
    ],
)
def test_a_wrong_script_is_one_line(tmp_path: Path, script: str, said: str) -> None:
    (tmp_path / "s.yaml").write_text(script)
    with pytest.raises(BadInput, match=said) as caught:
        open_model(str(tmp_path / "s.yaml"), {})
    assert "\n" not in str(caught.value)
