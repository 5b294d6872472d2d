"""Benchmarks: one command each, Waypost and a peer in turn on one disk, with the ratio as the last line."""
