"""TLS of both sides, from the PEM files that a URL names."""

from __future__ import annotations

import ssl
import tempfile
from pathlib import Path

from datasync.serving.access import Access

__all__ = ["client_context", "server_context"]


def server_context(access: Access) -> ssl.SSLContext:
    """For a server, which wants certificates of its clients where `access` has authorities."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    _show(context, access)
    if access.ca is not None:
        _trust(context, access)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_context(access: Access) -> ssl.SSLContext:
    """For a client, which verifies the server by the authorities of `access`, or of this system."""
    if access.ca is None:
        context = ssl.create_default_context()
    else:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        _trust(context, access)
    if access.cert is not None:
        _show(context, access)
    return context


def _show(context: ssl.SSLContext, access: Access) -> None:
    # the ssl module reads certificates from files only
    with tempfile.TemporaryDirectory(prefix="datasync-") as directory:
        path = Path(directory) / "chain.pem"
        path.touch(0o600)
        path.write_bytes((access.cert or b"") + b"\n" + (access.key or b""))
        context.load_cert_chain(path)


def _trust(context: ssl.SSLContext, access: Access) -> None:
    context.load_verify_locations(cadata=(access.ca or b"").decode("ascii", "ignore"))  # beside it there may be notes
