"""Cases of sharing that random ones meet too rarely."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mmalign_eval.miniature.nano import nano_tokenizer
from mmalign_eval.models import together
from mmalign_eval.models.checkpoint import Ends
from mmalign_eval.models.encoding import Ids, Scored
from mmalign_eval.models.generation import generate, plain_config
from mmalign_eval.models.kv import Path
from mmalign_eval.models.prefix import score_separately
from mmalign_eval.models.shared import TreeScorer
from mmalign_eval.requests import GenParams

from .hf_case import near
from .test_shared import model_of


def ids(*tokens: int) -> Ids:
    return np.array(tokens, np.int32)


def test_what_was_packed_is_not_gone_on_from() -> None:
    """The row 5 6 7, of 5 6 and 5 7, is no path 5 6 7: its last token saw another text at another place."""
    model = model_of("sdpa")
    scorer = TreeScorer(Path(model), 4)
    list(scorer.score([Scored(ids(5), (ids(6, 9), ids(7, 9)))]))
    long = Scored(ids(5, 6, 7, 8, 9, 10), (ids(11),))
    ((_, (found,)),) = scorer.score([long])
    (want,) = score_separately(model, [(long.context, long.options[0])], 256)
    assert near(found.logprob, want.logprob)


@pytest.mark.parametrize("others", [0, 512])
def test_texts_that_end_early_leave_the_others_their_seeds(others: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(together, "_OTHERS", others)
    model, tokenizer, ends = model_of("sdpa"), nano_tokenizer(), Ends(eos=tuple(range(5, 60)), pad=0)
    model.generation_config = plain_config(ends)
    prompts, seeds = [ids(5, 6, 7, 8, number) for number in range(10, 18)], list(range(8))
    rows = torch.from_numpy(np.stack(prompts).astype(np.int64))
    params = GenParams(max_new_tokens=24, temperature=8.0)
    inputs = {"input_ids": rows, "attention_mask": torch.ones_like(rows)}
    slow = generate(model, tokenizer, inputs, params, seeds, ends)
    assert len({text.new_tokens for text in slow}) > 3
    assert together.generate_together(Path(model), prompts, params, seeds, tokenizer, ends) == slow
