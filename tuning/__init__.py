"""Tuning: the trainers that make the checkpoints to score (MM-ft, MM-lora, BPO and its baselines)."""
