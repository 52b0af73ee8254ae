"""Objects that depend on each other, brought into the state that is stored."""

from datasync.reconcile.kind import Found, Kind
from datasync.reconcile.needs import Needs
from datasync.reconcile.reconciler import Reconciler
from datasync.reconcile.states import State

__all__ = ["Found", "Kind", "Needs", "Reconciler", "State"]
