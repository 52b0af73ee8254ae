"""The states of an object, and which may follow which."""

from __future__ import annotations

import enum

__all__ = ["FOLLOWS", "State"]


class State(enum.Enum):
    """Where an object stands; `Reconciler.state` says it by key.

    What is neither stored nor there has no state.
    """

    __hash__ = object.__hash__  # that of Enum is written in Python

    PENDING = "pending"
    """It waits for what it needs, and is not there."""
    RUNNING = "running"
    """An operation on it runs, or is due and has not had its turn."""
    APPLIED = "applied"
    """It is there as it is stored."""
    INVALID = "invalid"
    """The stored value cannot be applied. The last valid one stays in place."""
    FAILED = "failed"
    """The last operation failed. It is tried again, unless the error is permanent."""
    UNMANAGED = "unmanaged"
    """It was found, and nobody stores it: it is left alone, and satisfies needs."""
    REMOVING = "removing"
    """Nobody stores it any more, and it is still there."""


_S = State
_STORED = frozenset({_S.PENDING, _S.RUNNING, _S.APPLIED, _S.INVALID, _S.FAILED})

FOLLOWS: dict[State | None, frozenset[State | None]] = {
    None: _STORED | {_S.UNMANAGED, _S.REMOVING},
    # what was stored is ours to take down, unless it has gone and somebody else has made it since
    _S.PENDING: _STORED - {_S.PENDING} | {_S.UNMANAGED, _S.REMOVING, None},
    _S.RUNNING: _STORED - {_S.RUNNING} | {_S.UNMANAGED, _S.REMOVING, None},
    _S.APPLIED: _STORED - {_S.APPLIED} | {_S.UNMANAGED, _S.REMOVING, None},
    _S.INVALID: _STORED - {_S.INVALID} | {_S.UNMANAGED, _S.REMOVING, None},
    _S.FAILED: _STORED - {_S.FAILED} | {_S.UNMANAGED, _S.REMOVING, None},
    _S.REMOVING: _STORED | {_S.UNMANAGED, None},
    _S.UNMANAGED: _STORED | {_S.REMOVING, None},
}
"""The one table of transitions; the planner enters no state that it does not allow."""
