"""Find neurons by meaning, group them, keep them as concepts, and turn words into steers."""
