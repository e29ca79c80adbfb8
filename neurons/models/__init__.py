"""Models: where they come from, which of their channels are neurons, and how text becomes their token ids."""
