"""The replies in what a connection brings: none costs more than its bound, and each
has the form that is expected.

hiredis makes room for as many values as a server announces, before any of them has come: so each
announcement is held against the bound before hiredis sees it. Where one begins, hiredis itself
tells: it has used up all that it was fed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import hiredis
import msgspec

from datasync.connecting import foreign, too_large
from datasync.errors import Disconnected

__all__ = ["ReplyError", "Replies", "shaped"]

ReplyError = hiredis.ReplyError

_INCOMPLETE = object()
# What announces how much is to come, and what each of these takes in memory: the values of an
# array, a set, a push, a map or an attribute (which have two each), the bytes of a string
_COSTS = {b"*": 64, b"~": 64, b">": 64, b"%": 128, b"|": 128, b"$": 1, b"=": 1}
_KINDS = b"".join(_COSTS)
_MAYBE = re.compile(rb"\n[*~>%|]")
"""Behind the end of a line; it may be a part of a value. Strings in the midst
of others count as they come."""
_NUMBERS = re.compile(rb"\n[*~>%|]([0-9]{1,20})\r")
_LONG = re.compile(rb"\n[$=][0-9]{5}")
_MOST_COSTLY = max(_COSTS.values())
_ANNOUNCED = re.compile(rb"([*~>%|$=])([0-9]+)\r\n")
_LONGEST = 32
"""Bytes that an announcement has at most."""


class Replies:
    """Takes bytes and yields replies. `most`: bytes that one of them may
    have, and may take in memory."""

    def __init__(self, server: str, most: int) -> None:
        self._server = server
        self._most = most
        self._reader = hiredis.Reader(notEnoughData=_INCOMPLETE)
        self._held = b""
        """The beginning of an announcement whose end has not come."""
        self._cost = 0
        """What the reply that is not complete has taken so far."""

    def feed(self, data: bytes) -> Iterator[Any]:
        """The replies that are complete now. Raises `AnswerTooLarge`,
        `Disconnected`; then there are no more."""
        data, self._held = self._held + data, b""
        if data.endswith(b"\r\n") and self._take_at_once(b"\n" + data):
            yield from self._parse(data, 0, len(data))
            return

        at = 0
        while at < len(data):
            if data[at] in _KINDS and not self._reader.has_data():
                end = data.find(b"\n", at, at + _LONGEST) + 1
                if not end and len(data) - at < _LONGEST:
                    self._held = data[at:]
                    return
                if not end:
                    raise self._nonsense("a number without an end")
                self._announce(data[at:end])
            else:
                found = _MAYBE.search(data, at)
                end = len(data) if found is None else found.start() + 1
            yield from self._parse(data, at, end)
            at = end

    def _take_at_once(self, lines: bytes) -> bool:
        """Whether all of it may be parsed in one go, as most can: no announcement is cut in two,
        and if all that look like one are, they still cost less than the bound."""
        cost = _MOST_COSTLY * sum(map(int, _NUMBERS.findall(lines)))
        if self._cost + cost + len(lines) > self._most or _LONG.search(lines) is not None:
            return False
        self._cost += cost
        return True

    def _announce(self, line: bytes) -> None:
        found = _ANNOUNCED.fullmatch(line)
        if found is None:
            return
        kind, number = found.groups()
        cost = _COSTS[kind] * int(number)
        if self._cost + cost > self._most:
            raise too_large(self._server, self._most)
        if kind not in b"$=":  # whose bytes are counted as they come
            self._cost += cost

    def _parse(self, data: bytes, start: int, end: int) -> Iterator[Any]:
        self._cost += end - start
        try:
            self._reader.feed(data, start, end - start)
            while (reply := self._reader.gets()) is not _INCOMPLETE:
                self._cost = 0
                yield reply
        except (hiredis.ProtocolError, TypeError) as error:
            # a TypeError: a map whose keys cannot be keys
            raise self._nonsense(str(error)) from None
        if self._cost > self._most:
            raise too_large(self._server, self._most)

    def _nonsense(self, why: str) -> Disconnected:
        return foreign(self._server, "Redis", why)


def shaped(reply: Any, form: Any, server: str) -> Any:
    """The reply, which has to be of that form (a type, or a union of some).
    Raises `Disconnected`."""
    try:
        return msgspec.convert(reply, form)
    except msgspec.ValidationError as error:
        raise foreign(server, "Redis", str(error)) from None
