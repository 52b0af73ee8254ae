"""The public names: complete, documented, and nothing by accident."""

from __future__ import annotations

import inspect
import subprocess
import sys
import types
from typing import Union, get_origin

import pytest

import datasync

# DESIGN, section 2, and what its sentences name
VOCABULARY = [
    "DataSync",
    "Layer",
    "Watch",
    "View",
    "Txn",
    "Source",
    "Capabilities",
    "Backoff",
    "DEFAULT_NOTIF_TIMEOUT",
    "ResyncEvent",
    "ChangeEvent",
    "Change",
    "KeyVal",
    "Op",
    "Verdict",
    "WatchState",
    "Status",
    "Refused",
    "Retry",
    "DataSyncError",
    "DatasyncError",
    "UsageError",
    "BadPrefix",
    "BadKey",
    "BadUrl",
    "BadValue",
    "BadStore",
    "AlreadyRegistered",
    "MissingExtra",
    "UnsupportedOption",
    "OutcomeUnknown",
    "NotApplied",
    "NotReady",
    "PartialWrite",
    "Conflict",
    "DecodeError",
    "Disconnected",
    "Unauthorized",
    "HistoryChanged",
    "HistoryLost",
    "WatchClosed",
    "WrongLoop",
    "Forked",
    "local",
    "open_url",
]

MEMBERS = {  # of the classes that users hold in their hands
    "DataSync": "watch watcher ready resync put delete txn get list view status of_agent run "
    "start aclose",
    "Watch": "name state add_prefix remove_prefix close",
    "ResyncEvent": "values reason changes revision source attempt undecodable done defer",
    "ChangeEvent": "changes commits revision source attempt undecodable done defer",
    "Change": "op key value prev revision",
    "KeyVal": "key value raw revision source",
}


def exported() -> list[str]:
    return sorted(datasync.__all__)


def test_no_name_is_exported_twice() -> None:
    assert len(set(datasync.__all__)) == len(datasync.__all__)


@pytest.mark.parametrize("name", VOCABULARY)
def test_the_vocabulary_is_exported(name: str) -> None:
    assert name in datasync.__all__


def test_nothing_else_is_public() -> None:
    found = {
        name
        for name, value in vars(datasync).items()
        if not name.startswith("_")
        and not isinstance(value, types.ModuleType)
        and name != "annotations"
    }
    assert found <= set(datasync.__all__)


@pytest.mark.parametrize("name", exported())
def test_every_name_is_documented(name: str) -> None:
    value = getattr(datasync, name)
    # an alias has no docstring of its own
    if isinstance(value, type) or (callable(value) and get_origin(value) is not Union):
        assert inspect.getdoc(value), f"{name} has no docstring"
        own = value.__doc__
        assert own, f"{name} only inherits its docstring"
        assert not own.startswith(f"{name}("), f"{name} has a docstring made by a machine"


@pytest.mark.parametrize("name", exported())
def test_every_public_member_is_documented(name: str) -> None:
    value = getattr(datasync, name)
    if not isinstance(value, type):
        return
    bare = [
        member
        for member, attribute in vars(value).items()
        if not member.startswith("_")
        and (
            inspect.isfunction(attribute)
            or isinstance(attribute, (property, classmethod, staticmethod))
        )
        and not inspect.getdoc(getattr(value, member))
    ]
    assert not bare, f"{name}: {bare} have no docstring"


@pytest.mark.parametrize("name", MEMBERS)
def test_the_members_of_the_design_are_there(name: str) -> None:
    value = getattr(datasync, name)
    known = {*dir(value), *getattr(value, "__annotations__", {}), *getattr(value, "__slots__", ())}
    assert set(MEMBERS[name].split()) <= known


@pytest.mark.parametrize("name", exported())
def test_errors_have_one_root(name: str) -> None:
    value = getattr(datasync, name)
    if isinstance(value, type) and issubclass(value, BaseException):
        assert issubclass(value, datasync.DataSyncError)


def test_a_star_import_brings_the_same_names() -> None:
    namespace: dict[str, object] = {}
    exec("from datasync import *", namespace)
    assert set(namespace) - {"__builtins__"} == set(datasync.__all__)


def test_importing_it_brings_no_optional_package() -> None:
    optional = ("apsw", "google.protobuf", "orjson", "yaml", "pytest")
    code = f"import sys, datasync; print(*sorted(set({optional}) & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.split() == []


def test_a_command_starts_without_what_few_commands_need() -> None:
    others = (
        "importlib.metadata",
        "sqlite3",
        "apsw",
        "hmac",
        "datasync.kvdbsync.sqlite",
        "datasync.serving",
    )
    code = f"import sys, datasync.cli; print(*sorted(set({others}) & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.split() == []
