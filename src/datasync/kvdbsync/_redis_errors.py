"""What an error reply of Redis means, and what a lost connection does."""

from __future__ import annotations

import os
import ssl

from datasync.errors import BadStore, DatasyncError, Disconnected, OutcomeUnknown, Unauthorized

__all__ = ["LOGIN", "Moved", "TopologyChanged", "moved", "of_connect", "of_loss", "of_reply", "unknown"]

# Redis' own codes: the first word of an error reply
_CREDENTIALS = {"WRONGPASS", "NOAUTH", "NOPERM"}
_LATER = {
    "LOADING", "MASTERDOWN", "READONLY", "CLUSTERDOWN", "TRYAGAIN", "BUSY", "NOREPLICAS", "ASK", "MOVED", "UNKILLABLE",
}  # fmt: skip
# how one that is not allowed to a script begins, of Redis 7.0 and later ones
_IN_SCRIPT = ("user executing the script", "ACL failure in script")
_ABORTED = "EXECABORT Transaction discarded because of: "
# OpenSSL's codes of what may be wrong with a certificate, and the way out
_ANOTHER_HOST = "name the host as its certificate does, or have it issued for this one"
_CERTIFICATE = {10: "renew it", 62: _ANOTHER_HOST, 64: _ANOTHER_HOST}

LOGIN = "the user and password of the URL"


class TopologyChanged(Disconnected):
    """The cluster has another primary than those that are known: look again."""


class Moved(Exception):
    """A cluster says that the key of a command is elsewhere; nothing was done."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        kind, slot, address = text.split()[:3]
        self.asking = kind == "ASK"
        """Only this time: the slot is on its way."""
        self.slot = int(slot)
        host, _, port = address.rpartition(":")
        self.host = host
        self.port = int(port)


def moved(error: Exception) -> Moved | None:
    """Where an error reply sends the command; None where it is about something else."""
    text = str(error)
    return Moved(text) if text.startswith(("MOVED ", "ASK ")) else None


def of_reply(error: Exception, address: str, login: str = LOGIN) -> DatasyncError:
    """What an error reply means: the command was not done. `login` says where the user and password come from."""
    text = " ".join(str(error).split()).removeprefix(_ABORTED)
    code = text.partition(" ")[0]
    if code in _CREDENTIALS or any(words in text for words in _IN_SCRIPT):
        return Unauthorized(f"{address}: {text}; check {login}, and the user's ACL")
    if code in _LATER or "max number of clients" in text:
        return Disconnected(f"{address}: {text}; nothing was done, try again")
    if code == "NOPROTO" or "unknown command" in text.lower():
        return BadStore(f"{address}: {text}; datasync needs Redis 6.0 or later")
    if code == "OOM":
        return BadStore(f"{address}: {text}; nothing was written: raise maxmemory, or store less")
    return BadStore(f"{address}: {text}; nothing was done")


def of_connect(error: OSError, address: str) -> DatasyncError:
    """What it means that no connection came about."""
    if isinstance(error, ssl.SSLCertVerificationError):
        hint = _CERTIFICATE.get(error.verify_code, "name its authority with ?ca=file")
        return Unauthorized(f"{address}: its certificate was not accepted ({error.verify_message}); {hint}")
    if isinstance(error, ssl.SSLError) and "ALERT" in (error.reason or ""):
        return Unauthorized(
            f"{address}: it turned this client's certificate away, or wants one ({error.reason}); name one that it"
            " trusts with ?cert=file&key=file"
        )
    number = error.errno if isinstance(error, ConnectionError) else None
    why = os.strerror(number) if number else error.strerror or str(error)
    return Disconnected(f"{address}: {why}; check the address, and that Redis runs there")


def of_loss(error: Exception | None, address: str) -> Disconnected | Unauthorized:
    """What it means that a connection has ended."""
    if error is None:
        return Disconnected(f"{address}: the server closed the connection")
    known = of_connect(error, address) if isinstance(error, ssl.SSLError) else None
    return known if isinstance(known, Unauthorized) else Disconnected(f"{address}: the connection was lost ({error})")


def unknown(error: DatasyncError) -> OutcomeUnknown:
    """The error of a write that was sent, and whose answer did not come."""
    return OutcomeUnknown(f"{error}; read the key to see whether it was written")
