"""Why a server turns a client away in the handshake of TLS, which the client's own protocol may not be able to tell."""

from __future__ import annotations

import asyncio
import ssl

from datasync.errors import Disconnected
from datasync.serving.access import Access

__all__ = ["turned_away"]

_PATIENCE = 1.0
"""Seconds after which a server that says nothing has accepted the certificate."""


async def turned_away(access: Access, *alpn: str) -> str | None:
    """Why the two sides do not accept each other's certificates, with the way out; None where it is not that.

    With TLS 1.3 a server judges its client behind the handshake, and not every one says what it thinks before it hangs
    up. What the client has sent by then can make its system drop even that; so this connects anew and sends nothing,
    and does it twice, for a server may just be about to end. alpn: the protocols that the server wants to hear.
    """
    why = await _turned_away(access, alpn)
    return why and await _turned_away(access, alpn)


async def _turned_away(access: Access, alpn: tuple[str, ...]) -> str | None:
    assert access.files is not None
    reason = "it hangs up behind the handshake"
    try:
        async with asyncio.timeout(_PATIENCE):
            context = access.files.context(*alpn)
            reader, writer = await asyncio.open_connection(access.host, access.port, ssl=context)
            try:
                if await reader.read(1):
                    return None
            except ConnectionError:
                pass
            finally:
                writer.transport.abort()
    except ssl.SSLCertVerificationError as error:
        return f"its certificate was not accepted ({error.verify_message}); name its authority with ?ca=file"
    except ssl.SSLError as error:
        reason = (error.reason or "").replace("_", " ").lower()
        if "alert" not in reason:
            return None
    except (OSError, TimeoutError, Disconnected):
        return None
    return (
        f"it turned this client's certificate away, or wants one ({reason});"
        " name one that it trusts with ?cert=file&key=file"
    )
