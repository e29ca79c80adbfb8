"""How descriptions are made: survey, fit, score, a language model's candidates."""
