"""Runs that are saved: record, replay, pairs, sweeps, ranking, the sentence about one token."""
