"""What an error reply of Redis means, and what a lost connection does."""

from __future__ import annotations

import re
from typing import NamedTuple

from datasync.certificates import BadCertificate, certificate_problem
from datasync.connecting import hung_up
from datasync.errors import BadStore, DataSyncError, Disconnected, OutcomeUnknown, Unauthorized

__all__ = [
    "LOGIN",
    "SLOTS",
    "Moved",
    "TopologyChanged",
    "ends_connection",
    "moved",
    "of_loss",
    "of_reply",
    "told",
    "unknown",
]

_NEEDS = "datasync needs Redis 6.0 or later"
# By the first word of an error reply: what it means, and the way out; nothing was done in any case.
# `{login}`: where the user and password come from
_CODES: dict[str, tuple[type[DataSyncError], str]] = {
    "WRONGPASS": (Unauthorized, "check {login}, and the user's ACL"),
    "NOAUTH": (Unauthorized, "check {login}, and the user's ACL"),
    "NOPERM": (Unauthorized, "check {login}, and the user's ACL"),
    "DENIED": (
        Unauthorized,
        "set a password on the server, or bind it to the address that is to be used",
    ),
    "LOADING": (Disconnected, "try again once it has loaded its data"),
    "MASTERDOWN": (Disconnected, "it is a replica without its primary; name the primary"),
    "READONLY": (Disconnected, "it is a replica now; name the primary, or write redis+sentinel://"),
    "NOREPLICAS": (Disconnected, "start its replicas, or lower min-replicas-to-write"),
    "CLUSTERDOWN": (Disconnected, "check CLUSTER INFO, and start the members that are missing"),
    "TRYAGAIN": (Disconnected, "a slot moves just now; try again"),
    "MOVED": (Disconnected, "a slot has moved; try again"),
    "ASK": (Disconnected, "a slot moves just now; try again"),
    "BUSY": (Disconnected, "wait for the script to end, or end it with SCRIPT KILL"),
    "UNKILLABLE": (Disconnected, "wait for the script to end"),
    "INPROG": (Disconnected, "a fail-over is under way; try again"),
    "MISCONF": (BadStore, "free its disk, or set stop-writes-on-bgsave-error no"),
    "OOM": (BadStore, "raise maxmemory, or store less"),
    "IOERR": (BadStore, "check the server's disk"),
    "NOPROTO": (BadStore, _NEEDS),
    "NOSCRIPT": (BadStore, "check that the server runs scripts"),
    "WRONGTYPE": (BadStore, "the key holds something else than a string; delete it first"),
    "CROSSSLOT": (BadStore, "put what the names of the keys share in braces, as in {{config}}/one"),
}
# What has no code of its own, by its words
_WORDS: dict[str, tuple[type[DataSyncError], str]] = {
    # that something is not allowed to a script, of Redis 7.0 and later ones
    "user executing the script": _CODES["NOPERM"],
    "acl failure in script": _CODES["NOPERM"],
    "max number of clients": (
        Disconnected,
        "raise maxclients, or close connections that nobody uses",
    ),
    "unknown command": (BadStore, _NEEDS),
    "db index is out of range": (BadStore, "name a database that it has, or raise databases"),
    "invalid bulk length": (
        BadStore,
        "the value is larger than proto-max-bulk-len; raise it, or store less",
    ),
    "can't save in background": _CODES["MISCONF"],
}
_OTHER = (BadStore, "see the server's log")
SLOTS = 16_384
"""Of a cluster."""
_MOVED = re.compile(r"(MOVED|ASK) ([0-9]{1,5}) (\S*):([0-9]{1,5})(?!\S)")
_LONGEST = 500
"""Characters of an error reply that are looked at, and shown."""
_ABORTED = "EXECABORT Transaction discarded because of: "

LOGIN = "the user and password of the URL"


class TopologyChanged(Disconnected):
    """The cluster has another primary than those that are known: look again."""


class Moved(NamedTuple):
    """A cluster says that the key of a command is elsewhere; nothing was done."""

    asking: bool
    """Only this time: the slot is on its way."""
    slot: int
    host: str
    port: int


def moved(error: Exception) -> Moved | None:
    """Where an error reply sends the command; None where it is about
    something else, or leads nowhere."""
    found = _MOVED.match(told(error))
    if found is None:
        return None
    kind, slot, host, port = found.groups()
    if int(slot) >= SLOTS or not 0 < int(port) < 65_536:
        return None
    return Moved(kind == "ASK", int(slot), host, int(port))


def told(error: Exception) -> str:
    """The text of an error reply, as far as a line has room for it."""
    return str(error)[:_LONGEST]


def ends_connection(error: Exception) -> bool:
    """Whether the server closes the connection after this reply: it cannot tell any more where
    a command begins."""
    return str(error).startswith("ERR Protocol error")


def of_reply(error: Exception, address: str, login: str = LOGIN) -> DataSyncError:
    """What an error reply means: the command was not done. `login` says where the
    user and password come from."""
    text = " ".join(told(error).split()).removeprefix(_ABORTED)
    by_words = (meaning for words, meaning in _WORDS.items() if words in text.lower())
    kind, way_out = next(by_words, None) or _CODES.get(text.partition(" ")[0], _OTHER)
    return kind(f"{address}: {text.rstrip('.')}; nothing was done: {way_out.format(login=login)}")


def of_loss(
    error: Exception | None, address: str, *, greeted: bool, tls: bool
) -> Disconnected | Unauthorized:
    """What it means that a connection has ended; `greeted`: it had answered before."""
    if (problem := certificate_problem(error)) is not None:
        return BadCertificate(f"{address}: {problem}")
    if not greeted:
        return hung_up(address, "Redis", tls=tls)
    if error is None:
        return Disconnected(
            f"{address}: the server closed the connection; if that goes on, see its log, and its "
            "client-output-buffer-limit"
        )
    return Disconnected(
        f"{address}: the connection was lost ({error}); check the server, and the network"
    )


def unknown(error: DataSyncError) -> OutcomeUnknown:
    """The error of a write that was sent, and whose answer did not come."""
    return OutcomeUnknown(f"{error}; read the key to see whether it was written")
