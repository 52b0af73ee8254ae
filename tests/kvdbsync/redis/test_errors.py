"""What Redis' error replies become: each code, with the way out; nothing was done."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from datasync import BadStore, DataSync, Disconnected, Unauthorized
from datasync.kvdbsync.redis.errors import of_reply
from tests.helpers.redis.redis_server import redis_server
from tests.helpers.servers import until

# as the server says them
_REPLIES = [
    (
        "WRONGPASS invalid username-password pair or user is disabled.",
        Unauthorized,
        "check the user",
    ),
    ("NOAUTH Authentication required.", Unauthorized, "check the user"),
    (
        "NOPERM this user has no permissions to run the 'scan' command",
        Unauthorized,
        "the user's ACL",
    ),
    (
        "DENIED Redis is running in protected mode because protected mode is enabled",
        Unauthorized,
        "set a password",
    ),
    ("LOADING Redis is loading the dataset in memory", Disconnected, "loaded its data"),
    (
        "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
        Disconnected,
        "the primary",
    ),
    ("READONLY You can't write against a read only replica.", Disconnected, r"redis\+sentinel://"),
    ("NOREPLICAS Not enough good replicas to write.", Disconnected, "min-replicas-to-write"),
    ("CLUSTERDOWN The cluster is down", Disconnected, "CLUSTER INFO"),
    ("CLUSTERDOWN Hash slot not served", Disconnected, "CLUSTER INFO"),
    ("TRYAGAIN Multiple keys request during rehashing of slot", Disconnected, "try again"),
    ("MOVED 1 127.0.0.1:7000", Disconnected, "try again"),
    ("ASK 1 127.0.0.1:7000", Disconnected, "try again"),
    (
        "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
        Disconnected,
        "SCRIPT KILL",
    ),
    (
        "UNKILLABLE Sorry the script already executed write commands",
        Disconnected,
        "wait for the script",
    ),
    ("INPROG Failover already in progress", Disconnected, "try again"),
    (
        (
            "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist "
            "to disk."
        ),
        BadStore,
        "stop-writes-on-bgsave-error",
    ),
    ("OOM command not allowed when used memory > 'maxmemory'.", BadStore, "raise maxmemory"),
    ("IOERR error or timeout", BadStore, "disk"),
    ("NOPROTO unsupported protocol version", BadStore, "Redis 6.0 or later"),
    ("NOSCRIPT No matching script.", BadStore, "scripts"),
    (
        "WRONGTYPE Operation against a key holding the wrong kind of value",
        BadStore,
        "delete it first",
    ),
    (
        "CROSSSLOT Keys in request don't hash to the same slot",
        BadStore,
        "braces, as in {config}/one",
    ),
    ("ERR max number of clients reached", Disconnected, "raise maxclients"),
    ("ERR unknown command 'HELLO', with args beginning with: '3'", BadStore, "Redis 6.0 or later"),
    ("ERR DB index is out of range", BadStore, "name a database"),
    ("ERR Protocol error: invalid bulk length", BadStore, "proto-max-bulk-len"),
    (
        "EXECABORT Transaction discarded because of: NOPERM this user has no permissions",
        Unauthorized,
        "the user's ACL",
    ),
    (
        "ERR The user executing the script can't run this command or subcommand",
        Unauthorized,
        "the user's ACL",
    ),
    ("ERR something that nobody knows", BadStore, "log"),
]


@pytest.mark.parametrize(
    ("reply", "kind", "way_out"), _REPLIES, ids=[reply[:30] for reply, _, _ in _REPLIES]
)
def test_each_code_has_a_way_out(reply: str, kind: type[Exception], way_out: str) -> None:
    error = of_reply(Exception(reply), "host:6379")
    assert type(error) is kind
    with pytest.raises(kind, match=rf"^host:6379: .*; nothing was done: .*{way_out}"):
        raise error
    assert "\n" not in str(error)


def test_too_few_replicas_and_a_script_that_does_not_end() -> None:
    async def main() -> None:
        async with redis_server() as server, DataSync(server.url) as sync:
            await server.do("CONFIG", "SET", "min-replicas-to-write", "1")
            for write in (
                sync.put("a/1", b"1"),
                sync.txn().put("a/1", b"1").put("a/2", b"1").commit(),
            ):
                with pytest.raises(
                    Disconnected, match=r"NOREPLICAS.*nothing was done.*min-replicas-to-write"
                ):
                    await write
            await server.do("CONFIG", "SET", "min-replicas-to-write", "0")
            assert await server.everything() == {}

            await server.do("CONFIG", "SET", "busy-reply-threshold", "50")
            script = asyncio.ensure_future(server.do("EVAL", "while true do end", 0))

            async def busy() -> bool:
                with contextlib.suppress(Exception):
                    await server.do("PING")
                    return False
                return True

            await until(busy, "the script keeps it busy")
            with pytest.raises(Disconnected, match=r"BUSY.*nothing was done.*SCRIPT KILL"):
                await sync.put("a/1", b"1")
            await server.do("SCRIPT", "KILL")
            await asyncio.wait((script,))
            assert script.exception() is not None
            await sync.put("a/1", b"1")

    asyncio.run(main())


def test_a_value_larger_than_the_server_takes() -> None:
    async def main() -> None:
        async with (
            redis_server(extra=["--proto-max-bulk-len", "1mb"]) as server,
            DataSync(server.url) as sync,
        ):
            with pytest.raises(
                BadStore, match=r"invalid bulk length.*nothing was done.*proto-max-bulk-len"
            ):
                await sync.put("a/1", b"x" * (2 << 20))
            await sync.put("a/1", b"x")

    asyncio.run(main())
