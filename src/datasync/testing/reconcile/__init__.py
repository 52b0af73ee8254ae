"""Unit tests of the kinds of `datasync.reconcile`: objects in, operations out, without a store; and
traces of operations, held against what a reconciler promises."""

from datasync.testing.reconcile.checker import RULES, Checker, Violation, check
from datasync.testing.reconcile.harness import Harness
from datasync.testing.reconcile.stand_in import Step

__all__ = ["RULES", "Checker", "Harness", "Step", "Violation", "check"]
