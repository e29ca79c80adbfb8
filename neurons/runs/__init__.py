"""Passes of a model: hooks, steering, generation, the logit lens."""
