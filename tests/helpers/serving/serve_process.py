"""`datasync serve` as a process of its own, for tests."""

from datasync.testing.chaos.served import ServeProcess

__all__ = ["ServeProcess"]
