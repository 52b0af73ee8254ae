"""From the words `module:name` to the DataSync of an agent, with what is wrong on the way told in
one line."""

from __future__ import annotations

import importlib
import inspect
import os
import re
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from datasync import DataSync
from datasync.errors import DataSyncError, UsageError
from datasync.texts import in_one_line, printable

if TYPE_CHECKING:
    from datasync.blocking import DataSync as BlockingDataSync

__all__ = ["imported", "sync_of"]

_TARGET = re.compile(r"(?P<module>\w+(\.\w+)*)(:(?P<name>\w+(\.\w+)*)(\(\))?)?")
_FILE = re.compile(r"(?:\./)?(?P<path>\w+(/\w+)*)(?P<py>\.py)?(?P<name>:\w+)?")
"""A module that is written as the file that it lies in."""
_NAME = "sync"
"""What is looked for in a module that is named alone."""


def imported(target: str) -> object:
    """What `target` names: a DataSync, or a function that makes one.

    target: `module:name`, `module:make()`, or `module` alone for `module:sync`.

    The module is looked for in the current directory first. Raises `UsageError` where there is
    nothing of that name, `DataSyncError` for what the module raises.
    """
    words, file = _TARGET.fullmatch(target), _FILE.fullmatch(target)
    if words is None or (file is not None and file["py"]):
        meant = f"{file['path'].replace('/', '.')}{file['name'] or ''}" if file else "agent:sync"
        raise UsageError(
            f"{target!r} does not name an agent; write the module and the name of its DataSync, "
            f"for example {meant}"
        )

    found: object = _module(words["module"])
    for name in (words["name"] or _NAME).split("."):
        if not hasattr(found, name):
            raise UsageError(f"there is no {name!r} in {words['module']}{_others(found, words)}")
        found = getattr(found, name)
    return found


def _module(name: str) -> ModuleType:
    folder = os.getcwd()
    if folder not in sys.path:  # it is, as '', with `python -m datasync`
        sys.path.insert(0, folder)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise _failure(error, name) from error
        raise UsageError(
            f"there is no module {error.name!r} in {folder}, nor is one installed; run this in the "
            "folder of the agent"
        ) from None
    except (Exception, SystemExit) as error:
        raise _failure(error, name) from error


def _failure(error: BaseException, module: str) -> DataSyncError:
    """What went wrong in the code of an agent, and where."""
    if isinstance(error, SyntaxError) and error.filename is not None:
        return DataSyncError(
            f"{_short(error.filename)}, line {error.lineno}: {type(error).__name__}: {error.msg}"
        )
    package = module.partition(".")[0]
    place = module
    for frame, line in traceback.walk_tb(error.__traceback__):
        if str(frame.f_globals.get("__name__")).partition(".")[0] == package:
            place = f"{_short(frame.f_code.co_filename)}, line {line}"
    return DataSyncError(f"{place}: {in_one_line(error)}")


def _short(file: str) -> str:
    path = Path(file)
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def _others(found: object, words: re.Match[str]) -> str:
    members = vars(found) if isinstance(found, ModuleType) else {}
    names = [name for name, value in members.items() if isinstance(value, _faces())]
    if names:
        return f"; did you mean {words['module']}:{names[0]}?"
    return "; name a DataSync of that module, or a function that makes one"


async def sync_of(found: object, target: str) -> DataSync | BlockingDataSync:
    """The DataSync that was found, or that the function which was found makes, of either face.

    Raises `UsageError` for anything else, `DataSyncError` for what the function raises.
    """
    if callable(found):
        module = str(getattr(found, "__module__", target))
        try:
            found = found()
            if inspect.isawaitable(found):
                found = await found
        except Exception as error:
            raise _failure(error, module) from error
    if not isinstance(found, _faces()):
        raise UsageError(
            f"{printable(target)} is of type {type(found).__name__}; name a DataSync, or a "
            "function without arguments that makes one"
        )
    if all(source.state == "closed" for source in found.status().sources):
        raise UsageError(
            f"{printable(target)} was run by its module, as that was imported, and has ended; put "
            "what runs it there below: if __name__ == '__main__':"
        )
    return found


def _faces() -> tuple[type[DataSync | BlockingDataSync], ...]:
    blocking = sys.modules.get("datasync.blocking")  # which those who made one have imported
    return (DataSync,) if blocking is None else (DataSync, blocking.DataSync)
