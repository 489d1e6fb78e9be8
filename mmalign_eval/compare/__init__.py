"""Comparing stored results: what changed from a base to other models, and is it real?"""

from .changes import Change, Comparison, compare, compare_runs, model_runs

__all__ = ["Change", "Comparison", "compare", "compare_runs", "model_runs"]
