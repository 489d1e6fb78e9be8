"""Tuning: the trainers that make the checkpoints to score."""
