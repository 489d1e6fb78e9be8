"""Leaderboards: pages of published and measured rows, made from files alone."""
