"""Guided tours: five real cases of the default model, with the numbers that a checked-in script measured (scripts/build_tours.py)."""
