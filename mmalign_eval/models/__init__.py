"""Model adapters: what drives a model."""
