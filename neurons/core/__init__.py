"""Plain types, errors, the home folder and progress. Imports nothing else of ours."""
