"""Metrics with the parsers that belong to them."""
