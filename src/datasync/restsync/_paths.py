"""The path of a request: one parse, from which come both what is asked for
there and the key that it names.

What stands before a server (a proxy, the middleware of an application that mounts it) admits
requests by their path, as it was sent or decoded. Whatever the two do not agree on leads nowhere: a
key is never another one than they saw.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, unquote, unquote_to_bytes

from datasync.restsync._problems import Problem

__all__ = ["KEY", "below", "key_of", "path_of"]

KEY = "/v1/keys/"
"""What the path of a key begins with."""

_MALFORMED = re.compile("%(?![0-9a-fA-F]{2})")


def path_of(scope: Mapping[str, Any]) -> str | None:
    """The path after that of the mount, still percent-encoded; None where it is ambiguous.

    Some servers give a path with that of the mount, some without, and some only decoded.
    """
    path: str = scope["path"]
    root: str = scope.get("root_path") or ""
    raw: bytes | None = scope.get("raw_path")

    try:
        sent = quote(path) if raw is None else raw.partition(b"?")[0].decode("ascii")
    except UnicodeError:
        return None
    if sent == path and not root and "%" not in sent:
        return sent  # stands for itself
    if _MALFORMED.search(sent):
        return None

    rest = _behind(sent, root)
    decoded = unquote(rest)
    return rest if path in (decoded, root + decoded, root.rstrip("/") + decoded) else None


def _behind(sent: str, root: str) -> str:
    """What comes after the path of the mount, whose slashes are sent as such."""
    for mount in (root, root.rstrip("/")):
        head = "/".join(sent.split("/")[: mount.count("/") + 1])
        if mount in (head, unquote(head)):
            return sent[len(head) :]
    return sent


def key_of(path: str, longest: int) -> str:
    """The key that a path below `KEY` names, at most `longest` bytes of UTF-8. Raises `Problem`."""
    key = unquote_to_bytes(path.removeprefix(KEY))
    if not key:
        raise Problem(400, "BadKey", "a key is not empty; name what is to be stored")
    if len(key) > longest:
        raise Problem(414, "BadKey", f"a key is at most {longest:,} bytes long here")
    try:
        return key.decode()
    except UnicodeDecodeError:
        raise Problem(400, "BadKey", "a key is UTF-8, percent-encoded where it has to be") from None


def below(scope: Mapping[str, Any]) -> bytes:
    """The path of the request with a slash after it, told relative to itself, so
    that it leads to no other host."""
    raw: bytes = scope.get("raw_path") or quote(scope["path"]).encode()
    return b"./" + raw.rpartition(b"/")[2] + b"/"
