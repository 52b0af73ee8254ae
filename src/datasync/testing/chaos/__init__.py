"""Chaos on the real servers: `python -m datasync.testing.chaos URL
--minutes N`; see docs/testing.md."""
