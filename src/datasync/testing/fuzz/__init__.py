"""A fuzzer for each door: `python -m datasync.testing.fuzz DOOR --minutes
N`; see docs/testing.md."""
