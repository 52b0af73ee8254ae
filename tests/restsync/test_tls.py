"""TLS: both sides verified, and what is said where one is not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from datasync import DataSync, Disconnected, Unauthorized
from tests.helpers.certificates import Authority
from tests.helpers.servers import free_ports, require

Run = Callable[[Any], None]


def test_certificates_of_both_sides(run: Run, tmp_path: Path) -> None:
    openssl = require("openssl", "apt-get install -y openssl")
    ours, foreign = Authority(openssl, tmp_path / "ours"), Authority(openssl, tmp_path / "foreign")
    for authority in (ours, foreign):
        authority.issue("server")
        authority.issue("client")
    ours.issue("old", days=-1)
    [port] = free_ports(1)

    def url(scheme: str, ca: Authority | None, shows: Authority | None, name: str) -> str:
        query = [] if ca is None else [f"ca={ca.ca}"]
        query += [] if shows is None else [f"cert={shows.cert(name)}", f"key={shows.key(name)}"]
        return f"{scheme}://127.0.0.1:{port}?{'&'.join(query)}"

    async def main() -> None:
        agent = DataSync(url("rests", ours, ours, "server") + "&initial=empty")
        async with agent:
            async with DataSync(url("https", ours, ours, "client")) as client:
                assert await client.put("a", b"1") == 1
                view = client.view("")
                await view.at_least(1, timeout=60)
                assert dict(view) == {"a": b"1"}
            # the system does not trust the server, nor does a foreign authority
            for ca in (None, foreign):
                with pytest.raises(Unauthorized, match=r"its authority is unknown.*\?ca=file"):
                    await DataSync(url("https", ca, ours, "client")).start()
            for shows, name in ((None, ""), (foreign, "client"), (ours, "old")):
                with pytest.raises(
                    Unauthorized, match="turned this client's certificate away, or wants one"
                ):
                    await DataSync(url("https", ours, shows, name)).start()
            async with DataSync(f"http://127.0.0.1:{port}") as plain:
                with pytest.raises(Disconnected):
                    await plain.get("a")

    run(main())
