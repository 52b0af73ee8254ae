"""Objects that depend on each other, brought into the state that is stored."""

from datasync.reconcile.drawing import DrawnGraph, DrawnNeed, DrawnObject
from datasync.reconcile.kind import Found, Kind
from datasync.reconcile.needs import Needs
from datasync.reconcile.operations import Verb
from datasync.reconcile.preview import PlannedOperation, Preview, Unapplied
from datasync.reconcile.reconciler import Reconciler
from datasync.reconcile.states import State
from datasync.reconcile.status import (
    KindStatus,
    ObjectChange,
    ObjectStatus,
    OperationStatus,
    PlanStatus,
    ReconcilerStatus,
)

__all__ = [
    "DrawnGraph",
    "DrawnNeed",
    "DrawnObject",
    "Found",
    "Kind",
    "KindStatus",
    "Needs",
    "ObjectChange",
    "ObjectStatus",
    "OperationStatus",
    "PlanStatus",
    "Reconciler",
    "ReconcilerStatus",
    "State",
    "PlannedOperation",
    "Preview",
    "Unapplied",
    "Verb",
]
