"""Where a context ends and its continuation begins is where lm-eval puts it, token for token."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from .hf_case import opened
from .test_hf_parity import lm_eval_model

ARCHS = ("llama", "gpt2", "qwen2")
pieces = ("Question:", " Is", " there", "  ", "\n\n", "Answer", "caf", "é", "<s>", "ﬀ", " 7")
strings = st.one_of(
    st.text(alphabet="ae é漢😀\n\tQYes:no7'", max_size=12),
    st.lists(st.sampled_from(pieces), max_size=5).map("".join),
)


def theirs(model: Any, context: str, option: str) -> tuple[list[int], list[int]]:
    """Ids of context and continuation as `TemplateLM.loglikelihood` makes them (lm_eval 0.4.13, api/model.py)."""
    if context:
        return model._encode_pair(context, option)  # type: ignore[no-any-return]
    ids = model.tok_encode(option, add_special_tokens=False)
    if ids and ids[0] == model.prefix_token_id:
        return ids[:1], ids[1:]
    return [model.prefix_token_id], ids


@pytest.mark.parametrize("arch", ARCHS)
@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(context=strings, options=st.lists(strings, min_size=1, max_size=4))
@example("caf", ["é", "e", ""])
@example("trailing  ", ["Yes", "", " Yes"])
@example("", ["", "<s>already", " a"])
@example("<s>begins", [" a"])
@example(" \n", ["Yes"])
def test_the_boundary_is_lm_evals(arch: str, context: str, options: list[str]) -> None:
    model = lm_eval_model(arch)
    found = opened(arch).encoder.choose(context, options)
    for option, ids in zip(options, found.options, strict=True):
        head, tail = theirs(model, context, option)
        assert ids.tolist() == tail
        assert found.context.tolist() == (head or [model.prefix_token_id])  # a context of blanks only: theirs asserts
