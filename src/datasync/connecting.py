"""What it means that a connection did not come about, or leads to a server of another kind: one
line that names the server and the way out, the same for every transport.

All of it is `Disconnected`, also what looks like a mistake in the URL: a name may be known in a
minute, and the server of another kind be the error page of a gateway whose server is just starting.
What is wrong with a certificate is in `datasync.certificates`.

protocol: what the server should speak, as errors name it: "Redis", "etcd", "Kafka", "datasync".
"""

from __future__ import annotations

import asyncio
import errno
import os
import re
import socket
import ssl

from datasync.certificates import BadCertificate, certificate_problem
from datasync.errors import AnswerTooLarge, BadStore, DataSyncError, Disconnected

__all__ = [
    "cannot_listen",
    "check_free",
    "foreign",
    "hung_up",
    "no_answer",
    "no_tls",
    "not_connected",
    "too_large",
    "unknown_name",
    "unreachable",
]

_NOT_HERE = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
_NUMBER = re.compile(r"\[Errno ([0-9]+)\]")


def not_connected(error: Exception, server: str, protocol: str, *, tls: bool) -> DataSyncError:
    """What connecting raised: an `OSError`, one of TLS, or that no host can have such a name, or
    such a port, as a server may announce."""
    if (problem := certificate_problem(error)) is not None:
        return BadCertificate(f"{server}: {problem}")
    if isinstance(error, ssl.SSLError):
        return no_tls(server, _reason(error))
    if isinstance(error, socket.gaierror | UnicodeError):
        return unknown_name(server)
    if isinstance(error, OverflowError):
        return unreachable(server, "there is no such port", protocol)
    if tls and isinstance(error, ConnectionError) and not isinstance(error, ConnectionRefusedError):
        return no_tls(server, "it hangs up")

    return unreachable(server, _reason(error), protocol)


def unknown_name(server: str) -> Disconnected:
    """That nobody knows the name of the host."""
    return Disconnected(
        f"{server}: the name cannot be resolved; check the address, and the DNS of this machine"
    )


def unreachable(server: str, why: str, protocol: str) -> Disconnected:
    """That nobody listens there, or no way leads there."""
    return Disconnected(f"{server}: {why}; check the address, and that {protocol} runs there")


def no_tls(server: str, why: str) -> Disconnected:
    """That the server answers, but not as TLS has it."""
    return Disconnected(
        f"{server}: no TLS handshake ({why}); check the address, and that the server speaks "
        "TLS there"
    )


def no_answer(server: str, protocol: str, seconds: float | None = None) -> Disconnected:
    """That the server has been silent, for so long where given."""
    waited = "in time" if seconds is None else f"within {seconds:g} s"
    return Disconnected(
        f"{server}: no answer {waited}; check that the server is healthy, and that {protocol} "
        "runs there"
    )


def hung_up(server: str, protocol: str, *, tls: bool) -> Disconnected:
    """That the server closes the connection instead of its first answer."""
    wants = "another certificate" if tls else "TLS"
    return Disconnected(
        f"{server}: it hangs up without an answer; check the address, that {protocol} runs there, "
        f"and whether it wants {wants}"
    )


def foreign(server: str, protocol: str, why: str = "") -> Disconnected:
    """That an answer is not one of the protocol that the server should speak;
    `why` is how that was seen."""
    seen = f" ({why})" if why else ""
    return Disconnected(
        f"{server}: it does not answer as {protocol} does{seen}; check the address, and what "
        "stands before it"
    )


def too_large(server: str, most: int) -> AnswerTooLarge:
    """That a server has more to say at once than the `most` bytes which its URL allows."""
    return AnswerTooLarge(
        f"{server}: one answer has more than {most} bytes; give a larger max_answer= in the URL if "
        "that is meant, else check the server"
    )


def cannot_listen(server: str, error: Exception) -> BadStore:
    """That a server of ours has no place to listen at: it is taken, not this
    machine's, or not for this user."""
    why = (
        "the name cannot be resolved"
        if isinstance(error, socket.gaierror | UnicodeError)
        else _reason(error)
    )
    return BadStore(
        f"{server}: cannot listen there: {why}; choose another address, or end what listens there"
    )


async def check_free(server: str, host: str, port: int) -> None:
    """Raise `BadStore` where nothing can listen: what listens may not tell why. One of the
    addresses of a name may be none of this machine's, as that of IPv6 where there is none."""
    refused: OSError | None = None
    bound = False
    try:
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, protocol, _, address in found:
            try:
                with socket.socket(family, kind, protocol) as probe:
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    probe.bind(address)
                bound = True
            except OSError as error:
                if error.errno not in _NOT_HERE:
                    raise
                refused = error
    except (OSError, UnicodeError) as error:
        raise cannot_listen(server, error) from None

    if refused is not None and not bound:
        raise cannot_listen(server, refused)


def _reason(error: Exception) -> str:
    """In a few words, without the numbers and addresses that libraries put around them."""
    if isinstance(error, ssl.SSLError):  # whose numbers are OpenSSL's
        return (error.reason or str(error)).replace("_", " ").lower()
    number = error.errno if isinstance(error, OSError) else None
    if number is None and (found := _NUMBER.search(str(error))) is not None:
        # of several addresses that were tried
        number = int(found[1])
    if number is not None and number > 0:
        return os.strerror(number).lower()
    return str(error) or "the server closed the connection"
