"""Benchmarks: each module `bench_NAME.py` has `run(quick) -> Iterator[Row]`.

What only the processor bounds may be named in its `COUNTED`, too; see `bench.instructions`.
"""
