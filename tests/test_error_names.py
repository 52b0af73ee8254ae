"""The names of errors: each that one can see can be imported, or at least looked up."""

from __future__ import annotations

import importlib
import pkgutil

import datasync
from datasync import DataSyncError, Disconnected, errors
from datasync.restsync._problems import problem_of


def _kinds() -> set[type[DataSyncError]]:
    """Each class of error that there is in the package."""
    for module in pkgutil.walk_packages(datasync.__path__, "datasync."):
        if (
            not module.name.startswith(("datasync.testing", "datasync.demo"))
            and "__main__" not in module.name
        ):
            importlib.import_module(module.name)
    found, due = set(), [DataSyncError]
    while due:
        kind = due.pop()
        found.add(kind)
        due += kind.__subclasses__()
    return {kind for kind in found if kind.__module__.startswith("datasync.")}


def test_no_error_has_a_private_name() -> None:
    assert not [kind for kind in _kinds() if kind.__name__.startswith("_")]


def test_a_server_names_an_error_as_its_users_know_it() -> None:
    for kind in _kinds():
        if issubclass(kind, Disconnected):
            problem = problem_of(kind.__new__(kind, "gone"))
            assert problem is not None
            assert hasattr(errors, problem.error)


def test_the_root_keeps_its_old_spelling() -> None:
    """So what was written for the one catches the other."""
    assert datasync.DatasyncError is DataSyncError
    assert all(issubclass(kind, datasync.DatasyncError) for kind in _kinds())
