"""Which neurons caused a token, and what really happens without them."""
