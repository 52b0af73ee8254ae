"""The path of a request: whatever admits it by its path, sent or decoded,
sees the key that is read and written.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

import pytest

from datasync import DataSync
from datasync.restsync._paths import below, key_of, path_of
from datasync.restsync.agent import RestSource
from tests.helpers.rest.agents import agent, raw_request

Run = Callable[[Any], None]

ELSEWHERE = (
    "/v1%2Fkeys/public/v1/keys/secret",
    "/v1%2fkeys/secret",
    "/%76%31/keys/secret",
    "/v1/key%73/secret",
    "/v1/keys%2Fsecret",
    "/v1%252Fkeys/secret",
    "/v1/keys;x/secret",
    "/v1\\keys\\secret",
    "/v1/keys%5Csecret",
    "//v1/keys/secret",
    "/v1//keys/secret",
    "/./v1/keys/secret",
    "/%2E/v1/keys/secret",
    "/x/../v1/keys/secret",
    "/x/%2E%2E/v1/keys/secret",
    "/x/v1/keys/secret",
    "/V1/keys/secret",
    "/v1/keys/a%",
    "/v1/keys/a%2",
    "/v1/keys/a%zz",
    "v1/keys/secret",
    "*",
)
"""What is neither a route nor a key, whatever one could read into it."""


@pytest.mark.parametrize("root", ["", "/sync", "/my app", "/a/b"])
@pytest.mark.parametrize("sent", ELSEWHERE)
def test_a_path_that_is_not_plainly_one_of_a_key_names_none(sent: str, root: str) -> None:
    found = path_of(
        {
            "path": root + unquote(sent),
            "root_path": root,
            "raw_path": (root.replace(" ", "%20") + sent).encode(),
        }
    )
    assert found is None or not found.startswith("/v1/keys/")


KEYS = {
    "/v1/keys/a": "a",
    "/v1/keys/public/v1/keys/secret": "public/v1/keys/secret",
    "/v1/keys/public%2Fv1%2Fkeys%2Fsecret": "public/v1/keys/secret",
    "/v1/keys/%2Fv1/keys/secret": "/v1/keys/secret",
    "/v1/keys//a//b": "/a//b",
    "/v1/keys/a/../b": "a/../b",
    "/v1/keys/%2e%2e": "..",
    "/v1/keys/%252e%252F": "%2e%2F",
    "/v1/keys/a;b\\c": "a;b\\c",
    "/v1/keys/%C3%A9%F0%9F%98%80": "é😀",
    "/v1/keys/%3F%23%00%0A": "?#\0\n",
    "/v1/keys/%EF%BF%BD": "\ufffd",
}


@pytest.mark.parametrize(
    "root", ["", "/", "/sync", "/sync/", "/my app", "/my%20app", "/é", "/v1/keys", "/a/b"]
)
@pytest.mark.parametrize(("sent", "key"), KEYS.items())
def test_the_key_is_all_that_stands_behind_the_mount(sent: str, key: str, root: str) -> None:
    """Whether a server gives the path with that of the mount or without,
    decoded only or as sent too.
    """
    quoted = root.replace(" ", "%20").replace("é", "%C3%A9")
    decoded = unquote(sent)
    plain = root.rstrip("/")
    for path, raw in (
        (root + decoded, quoted + sent),  # uvicorn, Starlette's mounts
        (plain + decoded, plain.replace(" ", "%20").replace("é", "%C3%A9") + sent),  # hypercorn
        (decoded, quoted + sent),  # older Starlette
        (root + decoded, None),
        (root + decoded, quoted + sent + "?confirm=false"),  # some clients for tests
    ):
        scope = {"path": path, "root_path": root, "raw_path": None if raw is None else raw.encode()}
        found = path_of(scope)
        assert found is not None, (path, raw)
        assert found.startswith("/v1/keys/"), (path, raw)
        assert key_of(found, 4096) == key


@pytest.mark.parametrize(
    ("path", "raw"),
    [
        ("/v1/keys/public/a", b"/v1/keys/secret"),
        ("/v1/keys/public", b"/v1/keys/public/v1/keys/secret"),
        # cut off by something that does not say so in root_path
        ("/v1/keys/a", b"/elsewhere/v1/keys/a"),
        ("/sync/v1/keys/a", b"/v1/keys/b"),
        ("/v1/keys/a", b""),
        ("/v1/keys/\ud800", None),
        ("/v1/keys/\xff", b"/v1/keys/\xff"),
    ],
)
def test_two_paths_that_do_not_agree_lead_nowhere(path: str, raw: bytes | None) -> None:
    assert path_of({"path": path, "root_path": "/sync", "raw_path": raw}) is None


@pytest.mark.parametrize(
    ("path", "raw", "location"),
    [
        ("/sync", b"/sync", b"./sync/"),
        ("//other.example", b"//other.example", b"./other.example/"),
        ("/a\r\nb", None, b"./a%0D%0Ab/"),
        ("/a/javascript:x", b"/a/javascript:x", b"./javascript:x/"),
    ],
)
def test_the_page_of_a_mount_is_on_the_same_host(
    path: str, raw: bytes | None, location: bytes
) -> None:
    scope = {"path": path, "root_path": path, "raw_path": raw}
    assert path_of(scope) == ""
    assert below(scope) == location


def test_no_way_of_writing_a_path_reaches_another_key(run: Run) -> None:
    """On our own server, with bytes as they are."""

    async def main() -> None:
        async with agent("") as it:
            assert (await it.ask("PUT", "/v1/keys/secret", b"s3cret")).status == 200
            for path in ELSEWHERE:
                for method in ("GET", "PUT", "DELETE"):
                    request = (
                        f"{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n"
                    )
                    answer = await raw_request(
                        it.port, f"{request}connection: close\r\n\r\n".encode()
                    )
                    assert answer.split(b" ")[1] in (b"400", b"404"), (path, answer)
                    assert b"s3cret" not in answer
            for path in (
                "/%68ealth",
                "/page%2Fmain.js",
                "/v1%2Fstatus",
                "/v1/%65vents",
                "/v1/transactions%3F",
                "/metrics/",
            ):
                assert (await it.ask("GET", path)).status == 404
            assert {key: bytes(value) for key, value in it.probe.state.items()} == {
                "secret": b"s3cret"
            }

    run(main())


def test_a_guard_before_a_mounted_agent_admits_what_is_read(run: Run) -> None:
    """Middleware that goes by the decoded path, as that of Starlette and Django does."""

    async def main() -> None:
        source = RestSource(empty=True)

        async def asked(method: str, sent: str) -> tuple[int, bytes]:
            path, answer = unquote(sent), []
            if not path.startswith("/sync/v1/keys/public/"):
                return 403, b""

            async def receive() -> Any:
                return {"type": "http.request", "body": b"changed", "more_body": False}

            async def send(message: Any) -> None:
                answer.append(message)

            scope = {
                "type": "http", "method": method, "path": path, "raw_path": sent.encode(),
                "root_path": "/sync", "query_string": b"", "headers": [],
            }  # fmt: skip
            await source.app(scope, receive, send)
            return answer[0]["status"], answer[1]["body"]

        async with DataSync(source) as sync:
            await sync.ready(60)
            await sync.put("secret", b"s3cret")
            await sync.put("public/a", b"told")
            assert await asked("GET", "/sync/v1/keys/public/a") == (200, b"told")
            for sent in (
                "/sync/v1%2Fkeys/public/v1/keys/secret",
                "/sync/v1%2Fkeys/public/sync/v1/keys/secret",
                "/sync%2Fv1/keys/public/v1/keys/secret",
                "/sync/v1/keys/public/v1/keys/secret",
                "/sync/v1/keys/public/sync/v1/keys/secret",
                "/sync/v1/keys/public/../secret",
            ):
                for method in ("GET", "PUT", "DELETE"):
                    assert b"s3cret" not in (await asked(method, sent))[1]
                found = await sync.get("secret")
                assert found is not None
                assert found.raw == b"s3cret"

    run(main())
