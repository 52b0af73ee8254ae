"""Commands over a store that holds keys without a name: they go on, say how many they skipped,
and delete one.
"""

from __future__ import annotations

import asyncio
import pathlib

import pytest

from tests.helpers.command_line import Command, Shell
from tests.helpers.etcd.etcd_server import NEW, etcd_server
from tests.helpers.redis.redis_server import redis_server

URL = "sqlite:///a.db"
COPY = "sqlite:///copy.db"


@pytest.fixture
def filled(cli: Command) -> Command:
    for key in ("cfg/", "cfg//b", "cfg/a", "other"):
        cli("put", URL, key, "1")
    return cli


def test_each_command_goes_on_and_says_once_how_many_it_skipped(
    filled: Command, tmp_path: pathlib.Path
) -> None:
    cli = filled
    result = cli("ls", URL, "--prefix", "cfg/")
    assert result.out == "a\n"
    assert result.error.startswith("skipped 2 keys: ")
    assert "'cfg/'" in result.error
    assert "datasync del --raw" in result.error

    result = cli("dump", URL, "--prefix", "cfg/", "-o", "out.jsonl")
    assert (result.code, (tmp_path / "out.jsonl").read_text()) == (0, '{"key":"a","value":"1"}\n')
    assert result.error.startswith("skipped 2 keys: ")
    assert cli("load", URL, "out.jsonl", "--prefix", "cfg/").code == 0

    result = cli("diff", URL, "out.jsonl", "--prefix", "cfg/")
    assert (result.code, result.out) == (0, "")
    assert result.error.startswith("skipped 2 keys: ")

    result = cli("mirror", URL, COPY, "--once", "--prefix", "cfg/")
    assert result.out == "copied: 1 key, 1 written, 0 deleted\n"
    assert result.error.startswith("skipped 2 keys: ")
    assert cli("ls", COPY).out == "cfg/a\n"

    result = cli("get", URL, "a", "--prefix", "cfg/")
    assert (result.out, result.err) == ("1\n", "")


def test_one_that_follows_says_each_at_once(filled: Command, shell: Shell) -> None:
    mirror = shell.start("mirror", URL, COPY, "--prefix", "cfg/")
    mirror.wait_for("in step: 1 key")
    mirror.wait_for("(2 keys skipped so far)", err=True)
    filled("put", URL, "cfg//c", "1")
    mirror.wait_for("(3 keys skipped so far)", err=True)
    mirror.end()
    assert mirror.err.count(b"is skipped") == 3


def test_one_of_them_is_deleted_by_its_whole_key(filled: Command) -> None:
    cli = filled
    assert cli("del", URL, "--raw", "cfg//b").out == "deleted\n"
    assert cli("del", URL, "--raw", "cfg//b").out == "there was nothing at cfg//b\n"
    assert cli("ls", URL).out == "cfg/\ncfg/a\nother\n"
    assert cli("del", URL, "-r", "", "--prefix", "cfg/").out == "deleted\n"
    assert cli("ls", URL).out == "other\n"


@pytest.mark.parametrize(
    ("words", "way_out"),
    [
        (("--raw", "a", "--prefix", "cfg/"), "leave out --prefix and --label"),
        (("--raw", "a", "--label", "me"), "leave out --prefix and --label"),
        (("--raw", "a", "-r"), "leave out -r"),
        (("--raw", "a", "--if-revision", "1"), "leave out -r and --if-revision"),
        (("--raw", r"a\y"), "is doubled"),
        (("--raw", "a\\"), "is doubled"),
    ],
)
def test_what_has_no_meaning_beside_raw_is_wrong_usage(
    filled: Command, words: tuple[str, ...], way_out: str
) -> None:
    result = filled("del", URL, *words)
    assert result.code == 2
    assert way_out in result.error


def test_bytes_are_escaped_as_the_message_shows_them(cli: Command) -> None:
    key = "a\\b\n\t'é"
    cli("put", URL, key, "1")
    escaped = repr(key.encode())[2:-1]
    assert cli("del", URL, "--raw", escaped).out == "deleted\n"
    assert cli("ls", URL).out == ""


def test_keys_that_are_not_text_are_deleted_from_servers(shell: Shell) -> None:
    async def main() -> None:
        async with redis_server() as redis, etcd_server(NEW) as etcd:
            await redis.do("SET", b"a/\xff", "1")
            await redis.do("SET", b"", "1")
            await redis.do("SET", b"a/1", "1")
            await etcd.put_raw(b"a/\xff", b"1")
            for url, odd in ((redis.url, (r"a/\xff", "")), (etcd.url, (r"a/\xff",))):
                listed = await asyncio.to_thread(shell.run, "ls", url)
                assert f"skipped {len(odd)} key" in listed.error
                for key in odd:
                    deleted = await asyncio.to_thread(shell.run, "del", url, "--raw", key)
                    assert (deleted.out, deleted.err) == ("deleted\n", "")
                assert (await asyncio.to_thread(shell.run, "ls", url)).err == ""

    asyncio.run(main())
