"""The command line: one file per area, each with `register(app)`. Results on stdout, progress on stderr, exit status 0, 1 or 2."""
