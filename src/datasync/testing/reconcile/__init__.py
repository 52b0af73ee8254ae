"""Unit tests of the kinds of `datasync.reconcile`: objects in, operations out, without a store."""

from datasync.testing.reconcile.harness import Harness
from datasync.testing.reconcile.stand_in import Step

__all__ = ["Harness", "Step"]
