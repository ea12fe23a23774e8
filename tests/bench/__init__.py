"""Benchmarks: our side, the anchor's and the ratio, all in one run on one machine."""
