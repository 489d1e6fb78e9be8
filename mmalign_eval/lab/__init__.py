"""The laboratory: both papers in miniature, as a resumable list of steps that leaves result files and nothing else.

It shows mechanisms on a toy world. Nothing it measures is a fact about a real model or a real method.
"""
