"""lm-eval's tasks as ours, through our plan and store; and (`adapter_lm`) a model adapter of ours as an lm-eval `LM`.

Nothing here runs lm-eval's evaluator: its task objects render prompts, filter and score, one document at a time.
lm-eval itself is imported when the first task is bound, never before.
"""

from .binding import bind
from .named import open_lm_eval

__all__ = ["bind", "open_lm_eval"]
