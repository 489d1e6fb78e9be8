"""CHAIR: which COCO objects a text names, and which of them the image does not have (Rohrbach et al., 2018).

`tokens` splits a text as the official code saw it, `singular` has its two singularisers by name, `objects` finds the
objects of a synonym table, `score` counts mentions at every length and makes the metrics.
"""
