"""Headers that are there twice, too late, or not those of a page of ours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.helpers.rest.agents import agent, raw_request

Run = Callable[[Any], None]


def test_of_two_headers_none_counts_alone(run: Run) -> None:
    async def main() -> None:
        async with agent("", query="?token=s3cret") as it:
            for first, second in (("s3cret", "wrong"), ("wrong", "s3cret")):
                tokens = "".join(f"authorization: Bearer {token}\r\n" for token in (first, second))
                head = f"GET /v1/keys HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{tokens}\r\n"
                assert (await raw_request(it.port, head.encode())).startswith(b"HTTP/1.1 401 ")
        async with agent("") as it:
            for first, second in (
                ("localhost", "evil.example"),
                ("evil.example", "localhost"),
                ("localhost", "localhost"),
            ):
                head = (
                    f"GET /v1/keys HTTP/1.1\r\nhost: {first}\r\nhost: {second}\r\nconnection: "
                    "close\r\n\r\n"
                )
                assert (await raw_request(it.port, head.encode())).startswith(b"HTTP/1.1 400 ")

    run(main())


def test_what_comes_behind_the_body_is_no_header(run: Run) -> None:
    async def main() -> None:
        async with agent("", query="?token=s3cret") as it:
            head = (
                "PUT /v1/keys/a HTTP/1.1\r\nhost: a\r\nconnection: close\r\ntransfer-encoding: "
                "chunked\r\n\r\n"
            )
            body = "1\r\n1\r\n0\r\nauthorization: Bearer s3cret\r\n\r\n"
            assert (await raw_request(it.port, (head + body).encode())).startswith(b"HTTP/1.1 401 ")
            assert it.probe.state == {}

    run(main())


@pytest.mark.parametrize(
    "coding", ["gzip, chunked", "deflate, chunked", "chunked, chunked", "GZIP, Chunked"]
)
def test_a_body_that_is_packed_on_the_way_is_not_stored(run: Run, coding: str) -> None:
    async def main() -> None:
        async with agent("") as it:
            head = (
                "PUT /v1/keys/a HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n"
                "transfer-encoding: "
            )
            answer = await raw_request(
                it.port, f"{head}{coding}\r\n\r\n1\r\n1\r\n0\r\n\r\n".encode()
            )
            assert answer.split(b" ")[1] in (b"400", b"501")
            assert it.probe.state == {}

    run(main())


def test_json_that_is_deep_is_a_bad_body(run: Run) -> None:
    async def main() -> None:
        async with agent("") as it:
            for method, path in (
                ("POST", "/v1/events"),
                ("POST", "/v1/transactions"),
                ("PUT", "/v1/keys"),
            ):
                for body in (
                    b"[" * 100_000,
                    b'{"scopes":' * 100_000,
                    b'{"x":' + b"[" * 100_000,
                    b"\xff",
                ):
                    answer = await it.ask(method, path, body, Content_Type="application/json")
                    assert (answer.status, answer.json["title"]) == (400, "BadBody")

    run(main())


EMBEDDED = (
    ("no-cors", "image"),
    ("no-cors", "script"),
    ("navigate", "object"),
    ("navigate", "iframe"),
)
OURS = (
    ("same-origin", "cors", "empty"),
    ("same-origin", "no-cors", "script"),
    ("none", "navigate", "document"),
    ("cross-site", "navigate", "document"),
    ("cross-site", "cors", "empty"),
)


def test_a_foreign_page_learns_nothing_of_the_keys(run: Run) -> None:
    """Whether an image, a script or an object of it could be loaded tells whether
    there is such a key.
    """

    async def main() -> None:
        async with agent("") as it:

            async def status(path: str, site: str, mode: str, kind: str) -> int:
                return (
                    await it.ask(
                        "GET", path, Sec_Fetch_Site=site, Sec_Fetch_Mode=mode, Sec_Fetch_Dest=kind
                    )
                ).status

            await it.ask("PUT", "/v1/keys/there", b"1")
            for mode, kind in EMBEDDED:
                for path in (
                    "/v1/keys/there",
                    "/v1/keys/missing",
                    "/v1/keys",
                    "/v1/events",
                    "/metrics",
                    "/health",
                    "/x",
                ):
                    assert await status(path, "cross-site", mode, kind) == 403
                assert await status("/v1/keys/there", "same-site", mode, kind) == 403
            for site, mode, kind in OURS:
                assert await status("/v1/keys/there", site, mode, kind) == 200
            for path in ("/", "/v1/keys/there", "/v1/keys/missing", "/v1/status", "/page/main.js"):
                assert (await it.ask("GET", path)).headers[
                    "Cross-Origin-Resource-Policy"
                ] == "same-origin"

    run(main())
