"""doctor: what stands in the way of a source, and what to change there."""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from datasync.cli.parser import Command, Positional, json_option, seconds, source_options
from datasync.cli.sources import existing
from datasync.errors import (
    BadUrl,
    Conflict,
    DataSyncError,
    Disconnected,
    OutcomeUnknown,
    UsageError,
)
from datasync.findings import Finding, Severity
from datasync.keyspace import KeySpace
from datasync.source import Check, PushSession, Put, Source
from datasync.terminal.output import Output
from datasync.terminal.process import run
from datasync.texts import printable
from datasync.transports import Url

__all__ = ["COMMANDS"]

_KEY = "datasync-doctor"
"""One that nobody uses: it is asked for, and never written."""
_NEVER = (1 << 62) - 1
"""A revision that no key has."""
_REACHABLE = "reachable"
_CODES = {Severity.OK: 0, Severity.WARNING: 3, Severity.ERROR: 1}
_COLOURS = {Severity.OK: "green", Severity.WARNING: "yellow", Severity.ERROR: "red"}


def _doctor(options: argparse.Namespace) -> int:
    url = Url(options.url)
    if url.scheme in ("rest", "rests"):
        raise UsageError(
            f"{url} is an agent that listens; ask it as its clients do: http://host:port"
        )
    output = Output(json=options.json)
    told = [Severity.OK]

    def tell(finding: Finding) -> None:
        _tell(output, finding)
        output.flush()
        told.append(finding.severity)

    def code() -> int:
        return _CODES[max(told, key=list(Severity).index)]

    try:
        own = _own_certificate(url)
    except BadUrl as error:  # there is no source without it
        tell(_failed("certificate", error))
        return code()
    source = KeySpace.of(options.label, options.prefix).seen(existing(options.url))

    async def work() -> int:
        try:
            for finding in own:
                tell(finding)
            async for finding in _examined(source, options.timeout):
                tell(finding)
        finally:
            await source.aclose()
        return code()

    return run(work())


def _own_certificate(url: Url) -> list[Finding]:
    """How that is which the URL names, on whatever transport: it is looked at before a server is,
    which may not say what it has against it. Raises `BadUrl`."""
    from datasync.certificates import own_findings  # no other command need wait for them
    from datasync.endpoints import TlsFiles

    return own_findings(TlsFiles(*(url.option(name, Path, None) for name in TlsFiles._fields)))


def _tell(output: Output, finding: Finding) -> None:
    if output.json:
        output.record(
            about=finding.about,
            severity=finding.severity.value,
            text=finding.text,
            advice=finding.advice,
        )
        return
    mark = output.paint(f"{finding.severity.value:7}", _COLOURS[finding.severity])
    output.line(f"{mark}  {finding.about}: {printable(finding.text)}")
    if finding.advice:
        output.line(f"{'':7}  -> {printable(finding.advice)}")


async def _examined(source: Source, limit: float) -> AsyncIterator[Finding]:
    """All findings, as they come; those behind a source that cannot be reached are left out."""
    for about, step in _STEPS.items():
        reached = True
        try:
            async with asyncio.timeout(limit):
                found = await step(source)
        except TimeoutError:  # it may only have much to read, so the rest is asked all the same
            found = [_late(about, limit)]
        except DataSyncError as error:
            found, reached = [_failed(about, error)], about != _REACHABLE
        for finding in found:
            yield finding
        if not reached:
            return


def _late(about: str, limit: float) -> Finding:
    return Finding(
        about,
        Severity.ERROR,
        f"no answer within {limit:g} s",
        "see how the server is, and what lies in between; --timeout waits for longer",
    )


def _failed(about: str, error: DataSyncError) -> Finding:
    """What an error says, which names the way out after its last semicolon."""
    text, _, advice = str(error).rpartition("; ")
    return Finding(about, Severity.ERROR, text or advice, advice if text else "")


async def _read(source: Source) -> Sequence[Finding]:
    began = time.monotonic()
    await source.get(_KEY)
    took = 1000 * (time.monotonic() - began)
    return [Finding(_REACHABLE, Severity.OK, f"{source.name} answers, within {took:,.0f} ms")]


async def _server(source: Source) -> Sequence[Finding]:
    return await source.diagnose(_KEY)


async def _follow(source: Source) -> Sequence[Finding]:
    # an agent that is pushed to would begin to listen here: that it is there is all to be asked
    scopes = [] if source.capabilities.reply else [_KEY]
    session = await source.open(scopes)
    try:
        if not isinstance(session, PushSession):  # to have opened that one is all
            await anext(aiter(session))  # it begins to bring something
    except StopAsyncIteration:
        raise Disconnected(f"{source.name} ended the session; see its log") from None
    finally:
        await session.aclose()
    return [Finding("follow", Severity.OK, "may be read and followed")]


async def _write(source: Source) -> Sequence[Finding]:
    can = source.capabilities
    if not can.writable:
        return [Finding("write", Severity.OK, "takes no writes")]
    if not can.cas:
        return [Finding("write", Severity.OK, "cannot be tried without writing")]
    try:
        # the condition never holds, so nothing is written; who may not write hears that instead
        await source.commit([Check(_KEY, _NEVER), Put(_KEY, b"")])
    except Conflict:
        return [Finding("write", Severity.OK, "may be written")]
    raise OutcomeUnknown(
        f"{source.name} wrote {_KEY!r} though a condition did not hold; delete that key, and see "
        "what stands before the server"
    )


_STEPS = {_REACHABLE: _read, "follow": _follow, "write": _write, "server": _server}


def _options(parser: argparse.ArgumentParser) -> None:
    source_options(parser)
    json_option(parser)
    parser.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=seconds,
        default=10.0,
        help="for each step (default: 10)",
    )


COMMANDS = (
    Command(
        "doctor",
        "examine a source: whether it answers, what is wrong with it, and what to change; "
        "writes nothing",
        (Positional("url", "URL", "the source, for example etcd://127.0.0.1:2379"),),
        _options,
        _doctor,
        """
datasync doctor etcds://10.0.0.1:2379?ca=ca.pem --label vpp1
datasync doctor kafka://broker/config --json | jq 'select(.severity != "ok")'
""",
        urls=1,
    ),
)
