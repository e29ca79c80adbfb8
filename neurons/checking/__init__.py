"""The check at first load: whether a model comes out here as plain transformers has it."""
