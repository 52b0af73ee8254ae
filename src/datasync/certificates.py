"""What is wrong with the certificate of one of the two sides of TLS: one line that names it and the
way out, the same for every transport.

A client finds out at once what it has against the server's certificate. What the server
has against the client's it may hear too late, or never: with TLS 1.3 a server judges
its client behind the handshake.
"""

from __future__ import annotations

import asyncio
import ssl
import time

from datasync.endpoints import TlsFiles, is_loopback
from datasync.errors import DataSyncError, Disconnected, Unauthorized
from datasync.findings import Finding, Severity

__all__ = [
    "BadCertificate",
    "certificate_problem",
    "client_not_accepted",
    "encryption_findings",
    "explained",
    "server_not_accepted",
]

_DAY = 86400.0
_SOON = 21 * _DAY
"""Seconds before the end of a certificate from which on it is worth a word."""
_PATIENCE = 1.0
"""Seconds after which a server that says nothing has accepted the certificate."""
_AUTHORITY = "name its authority with ?ca=file, or check ca= where it is given"
_UNKNOWN = "its authority is unknown, so it is not trusted"
_HOST = "name the host as its certificate does, or have it issued for this one"
_RENEW = "renew it, or set the clock of this machine"

# What OpenSSL says, or BoringSSL in grpc, in the order of precedence; what
# it means, and the way out.
_FAULTS = (
    (("expired",), "it has expired", _RENEW),
    (("not yet valid",), "it is not valid yet", _RENEW),
    (
        ("mismatch", "is not in peer certificate", "Hostname Verification"),
        "it is made out to another host",
        _HOST,
    ),
    (("in certificate chain", "unable to", "unknown authority"), _UNKNOWN, _AUTHORITY),
    (
        ("self-signed", "self signed"),
        "it is self-signed, and not trusted",
        "name it with ?ca=file if it is the right one",
    ),
    (("revoked",), "it was revoked", "have another one issued"),
    (("purpose", "usage"), "it was not issued for a server", "have one issued for serverAuth"),
)


class BadCertificate(Unauthorized):
    """One of the two sides does not accept the certificate of the other."""


def certificate_problem(error: BaseException | None) -> str | None:
    """What an error says of a certificate, with the way out; None where it
    is about something else."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return server_not_accepted(error.verify_message)
    reason = (error.reason or "") if isinstance(error, ssl.SSLError) else ""
    _, alert, name = reason.partition("ALERT_")
    return client_not_accepted(name.replace("_", " ").lower()) if alert else None


def server_not_accepted(message: str) -> str:
    """Why this side does not accept the server's certificate, from what the library of TLS says."""
    for words, meaning, way_out in _FAULTS:
        if any(each in message for each in words):
            return f"its certificate was not accepted: {meaning} ({message}); {way_out}"
    return (
        f"its certificate was not accepted ({message or 'it could not be verified'}); {_AUTHORITY}"
    )


def client_not_accepted(why: str = "") -> str:
    """That the server does not accept the client's certificate; `why` is
    what is known of the reason."""
    said = f" ({why})" if why else ""
    return (
        f"it turned this client's certificate away, or wants one{said};"
        " name one that it trusts with ?cert=file&key=file"
    )


async def explained(
    error: DataSyncError,
    server: str,
    host: str,
    port: int,
    files: TlsFiles | None,
    *alpn: str,
    name: str | None = None,
) -> DataSyncError:
    """The error of a connection that did not come about, with the reason
    where it was for a certificate.

    Not every server says what is wrong before it hangs up, what the client has sent by then can
    make its system drop even that, and not every library passes on what it was told. So this
    connects once more and sends nothing, and does it twice, for a server may just be about to end.

    server: its name, for the error.
    alpn: the protocols that it expects.
    name: the name that its certificate must have, `host` if None.
    """
    if files is None or not isinstance(error, Disconnected | BadCertificate):
        return error
    why = await _handshake_problem(host, port, files, alpn, name)
    why = why and await _handshake_problem(host, port, files, alpn, name)
    return error if why is None else BadCertificate(f"{server}: {why}")


async def _handshake_problem(
    host: str, port: int, files: TlsFiles, alpn: tuple[str, ...], name: str | None
) -> str | None:
    """Why the two sides do not accept each other's certificates, with the way
    out; None where it is not that."""
    try:
        async with asyncio.timeout(_PATIENCE):
            reader, writer = await asyncio.open_connection(
                host, port, ssl=files.context(*alpn), server_hostname=name or host
            )
            try:
                if await reader.read(1):
                    return None
            except ConnectionError:
                pass
            finally:
                writer.transport.abort()
    except ssl.SSLError as error:
        return certificate_problem(error)
    except (OSError, TimeoutError, Disconnected):
        return None
    return client_not_accepted(
        "none was shown" if files.cert is None else "it hangs up behind the handshake"
    )


async def encryption_findings(
    host: str,
    port: int,
    files: TlsFiles | None,
    *alpn: str,
    secret: bool,
    name: str | None = None,
    timeout: float = 5.0,
) -> list[Finding]:
    """How long the certificate of a server is valid, or what goes to it in the clear.

    secret: whether this side shows a password or a token.
    alpn, name: as for `explained`.
    timeout: seconds that the handshake may take.
    """
    server = f"{host}:{port}"
    if files is None:
        if not secret or is_loopback(host):
            return []
        return [
            Finding(
                "encryption",
                Severity.WARNING,
                f"the password or token goes to {server} in the clear",
                "speak TLS, or reach it through a tunnel",
            )
        ]

    try:
        async with asyncio.timeout(timeout):
            _, writer = await asyncio.open_connection(
                host, port, ssl=files.context(*alpn), server_hostname=name or host
            )
    except (OSError, TimeoutError, Disconnected) as error:
        why = certificate_problem(error) or str(error) or "no answer in time"
        return [Finding("certificate", Severity.ERROR, f"{server}: {why}")]
    try:
        shown = writer.get_extra_info("peercert")
    finally:
        writer.transport.abort()

    ends = ssl.cert_time_to_seconds(shown["notAfter"])
    left = ends - time.time()
    day = time.strftime("%Y-%m-%d", time.gmtime(ends))
    if left > _SOON:
        return [Finding("certificate", Severity.OK, f"that of {server} is valid until {day}")]
    days = f"{left / _DAY:.0f} days" if left > 2 * _DAY else f"{left / 3600:.0f} hours"
    return [
        Finding(
            "certificate",
            Severity.WARNING,
            f"that of {server} ends in {days}, on {day}",
            "renew it; clients and servers of datasync read the files again by themselves",
        )
    ]
