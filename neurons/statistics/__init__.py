"""What a steer does over many prompts, with intervals."""
