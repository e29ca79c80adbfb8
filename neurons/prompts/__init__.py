"""Prompt files, prompt sets, and runs over them."""
