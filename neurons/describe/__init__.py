"""Say what neurons do, without a language model or with one, and score what is said on text it never saw."""
