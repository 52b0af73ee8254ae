"""What is wrong with the certificate of one of the two sides of TLS: one line that names it and the
way out, the same for every transport.

A client finds out at once what is wrong with the server's certificate. What the server finds wrong
with the client's it may hear too late, or never: with TLS 1.3 a server judges its client after the
handshake.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from pathlib import Path
from typing import Any

from datasync.endpoints import TlsFiles, is_loopback
from datasync.errors import BadUrl, DataSyncError, Disconnected, Unauthorized
from datasync.findings import Finding, Severity

__all__ = [
    "BadCertificate",
    "certificate_problem",
    "client_not_accepted",
    "encryption_findings",
    "explained",
    "own_findings",
    "server_not_accepted",
]

_DAY = 86400.0
_SOON = 21 * _DAY
"""Seconds before the end of a certificate at which to begin to warn."""
_NO_CHECK_TIME = 0x200000
"""X509_V_FLAG_NO_CHECK_TIME of OpenSSL, which `ssl.VerifyFlags` has no name for."""
_TURNS = 4
"""Turns of each side within which any handshake is done."""
_OTHER_KEY = ("KEY_VALUES_MISMATCH", "NO_CERTIFICATE_ASSIGNED")
"""What OpenSSL says of a key that a certificate is not for: one of its kind, or of another."""
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
        f"it turned this client's certificate away, or wants one{said}; name one that it trusts "
        "with ?cert=file&key=file"
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
    connects once more and sends nothing, and does so twice: a server may just be about to end.

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
        "none was shown" if files.cert is None else "it hangs up after the handshake"
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

    return [_validity(f"that of {server}", shown)]


def own_findings(files: TlsFiles) -> list[Finding]:
    """How the certificate is that a client shows, as far as its files tell: a server may turn it
    away for anything else. Nothing where it shows none.

    Raises `BadUrl` for files that no client can be made with.
    """
    if files.cert is None or files.key is None:
        return []
    for path in (files.cert, files.key):
        try:
            path.open("rb").close()
        except OSError as error:
            raise BadUrl(
                f"this client's: {path} cannot be read ({error.strerror}); see what cert= and key= "
                "name, and let this user read it"
            ) from None

    name = f"this client's ({files.cert})"
    try:
        return [_validity(name, _as_shown(files.cert, files.key))]
    except ssl.SSLCertVerificationError as error:
        text = f"{name} was not issued for a client ({error.verify_message})"
        return [Finding("certificate", Severity.ERROR, text, "have one issued for clientAuth")]
    except ssl.SSLError as error:
        if error.reason in _OTHER_KEY:
            raise BadUrl(
                f"{name} does not belong to the key {files.key}; name the key that it was issued "
                "for with key="
            ) from None
        raise BadUrl(
            f"{name} cannot be used with the key {files.key} ({error.reason or error}); name PEM "
            "files with cert= and key=, the key without a password"
        ) from None


def _as_shown(cert: Path, key: Path) -> Any:
    """What a certificate says, as a server finds it which trusts it, whenever it is shown: `ssl`
    decodes only what it has verified. Raises `ssl.SSLError`."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.verify_mode = ssl.CERT_REQUIRED
    server.load_verify_locations(cert)
    server.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | _NO_CHECK_TIME
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    for context in (server, client):  # a server has to show one as well, and nobody looks at it
        context.load_cert_chain(cert, key, password="")

    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    asking = client.wrap_bio(to_client, to_server)
    answering = server.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(_TURNS):
        for side in (asking, answering):
            with contextlib.suppress(ssl.SSLWantReadError):
                side.do_handshake()
    return answering.getpeercert()


def _validity(name: str, shown: Any) -> Finding:
    """How long a certificate is valid. shown: what `ssl` says of it."""
    now = time.time()
    begins, ends = (ssl.cert_time_to_seconds(shown[part]) for part in ("notBefore", "notAfter"))
    left, day = ends - now, _day(ends)
    if now < begins:
        text = f"{name} is not valid before {_day(begins)}"
        return Finding("certificate", Severity.ERROR, text, _RENEW)
    if left <= 0:
        return Finding("certificate", Severity.ERROR, f"{name} has expired, on {day}", _RENEW)
    if left > _SOON:
        return Finding("certificate", Severity.OK, f"{name} is valid until {day}")
    days = f"{left / _DAY:.0f} days" if left > 2 * _DAY else f"{left / 3600:.0f} hours"
    return Finding(
        "certificate",
        Severity.WARNING,
        f"{name} ends in {days}, on {day}",
        "renew it; clients and servers of datasync read the files again by themselves",
    )


def _day(moment: float) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(moment))
