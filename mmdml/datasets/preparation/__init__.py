"""Unpack the official archives of the benchmarks and check them against known counts."""
