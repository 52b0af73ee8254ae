"""Text made from a template and the keys of a source, by Jinja2 (needs the extra `cli`)."""

from __future__ import annotations

import json
import os
import traceback
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import jinja2

from datasync.errors import DataSyncError
from datasync.texts import in_one_line, printable

__all__ = ["Template"]

T = TypeVar("T")


class Template:
    """A template file, and those beside it that it includes; read again when they change.

    Raises `DataSyncError` where it cannot be read or does not parse.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._folder, self._name = os.path.split(path)
        self._environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(self._folder or "."),
            undefined=jinja2.StrictUndefined,
            autoescape=False,  # noqa: S701 - what is made is not HTML
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
        )
        self._environment.filters["from_json"] = _from_json
        self._told(lambda: self._environment.get_template(self._name))

    def render(self, pairs: Mapping[str, bytes]) -> bytes:
        """The text for these keys and values, in UTF-8. Raises `DataSyncError`, with the line."""
        data = _Data({key: _text(key, pairs[key]) for key in sorted(pairs)})

        def under(prefix: str) -> _Data:
            return _Data(
                (key.removeprefix(prefix), text)
                for key, text in data.items()
                if key.startswith(prefix)
            )

        def work() -> bytes:
            template = self._environment.get_template(self._name)
            return template.render(data=data, under=under).encode()

        return self._told(work)

    def _told(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except jinja2.TemplateNotFound as error:
            missing = os.path.join(self._folder, str(error.name))
            raise DataSyncError(f"{missing}: there is no such template that can be read") from error
        except jinja2.TemplateSyntaxError as error:
            place = f"{error.filename or self._path}, line {error.lineno}"
            raise DataSyncError(f"{place}: {printable(error.message or '')}") from error
        except Exception as error:
            told = _advised(error) if isinstance(error, jinja2.UndefinedError) else None
            raise DataSyncError(f"{self._place(error)}: {told or in_one_line(error)}") from error

    def _place(self, error: Exception) -> str:
        """The innermost line of a template on the way to an error."""
        place = self._path
        for frame, line in traceback.walk_tb(error.__traceback__):
            file = frame.f_code.co_filename
            if not file.endswith((".py", ">")):  # Jinja shows its own code as lines of the template
                place = f"{file}, line {line}"
        return place


def _advised(error: jinja2.UndefinedError) -> str:
    """What Jinja says, with the way out of what is misspelt the first time."""
    said = error.message or ""
    if said.endswith(" is undefined"):
        return f"{said}; a template has data, under(PREFIX) and the filter from_json"
    if said.startswith("'str object' has no "):
        return f"{said}; a value is text, so write (text|from_json) for what is JSON"
    return said


class _Data(dict[str, Any]):
    """Keys with their values; what is missing is undefined, and says its name where it is used."""

    def __missing__(self, key: str) -> jinja2.StrictUndefined:
        return jinja2.StrictUndefined(hint=f"there is no key {key!r}")


def _text(key: str, raw: bytes) -> str | jinja2.StrictUndefined:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return jinja2.StrictUndefined(hint=f"the value of {key!r} is not text in UTF-8")


def _from_json(text: object) -> Any:
    return json.loads(str(text))  # of what is undefined there is no str
