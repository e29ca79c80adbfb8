"""What a description is: its grammar, its features, its kinds, and what people wrote."""
