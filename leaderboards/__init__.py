"""Leaderboards: the papers' published rows and what was measured here (data; `mmalign_eval.leaderboards`)."""
