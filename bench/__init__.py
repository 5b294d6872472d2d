"""Benchmarks: one command each, beside a peer on one disk, with the ratio as the last line (docs/performance.md)."""
