"""Benchmarks: each module `bench_*.py` has `run(quick) -> Iterator[dict]`,
whose dicts are the figures.
"""
