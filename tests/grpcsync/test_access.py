"""Who gets in: TLS, client certificates, tokens; what is refused, and what is never shown."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from datasync import BadUrl, DataSync, DataSyncError, Unauthorized, open_url
from datasync.cli import main as command_line
from datasync.source import Put
from tests.helpers.certificates import Authority
from tests.helpers.grpc.agents import agent, client
from tests.helpers.grpc.plain import msg_pb2 as msg
from tests.helpers.raw_grpc import answering
from tests.helpers.servers import free_ports, require

Run = Callable[[Coroutine[Any, Any, None]], None]
TOKEN = "s3cret-t0ken"


@pytest.fixture(autouse=True)
def no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATASYNC_TOKEN", raising=False)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    authority = Authority(require("openssl", "apt-get install -y openssl"), tmp_path / "ca")
    authority.issue("server")
    authority.issue("client")
    return authority


def query(authority: Authority, name: str | None = None, *, ca: bool = True) -> str:
    """The query of a URL that shows a certificate and trusts the authority."""
    parts = [f"ca={authority.ca}"] if ca else []
    if name is not None:
        parts += [f"cert={authority.cert(name)}", f"key={authority.key(name)}"]
    return "?" + "&".join(parts)


async def outcome(url: str) -> Exception | None:
    """What a client at that URL meets when it starts, and writes."""
    try:
        async with asyncio.timeout(60), DataSync(url, connect_timeout=5) as sync:
            await sync.put("config/a", b"1", confirm="+watch" not in url)
    except DataSyncError as error:
        return error
    return None


def test_tls(run: Run, authority: Authority, tmp_path: Path) -> None:
    async def main() -> None:
        async with agent(query(authority, "server", ca=False) + "&initial=empty", "grpcs") as one:
            good = f"grpcs://{one.address}{query(authority)}"
            assert await outcome(good) is None
            assert one.state == {"config/a": b"1"}
            async with DataSync(good.replace("grpcs://", "grpcs+watch://")) as sync:
                found = await sync.get("config/a")
                assert found is not None
                assert found.raw == b"1"
            stranger = Authority("openssl", tmp_path / "stranger")
            error = await outcome(f"grpcs://{one.address}{query(stranger)}")
            assert isinstance(error, Unauthorized)
            assert "its certificate was not accepted" in str(error)
            assert isinstance(await outcome(f"grpc://{one.address}"), DataSyncError)

    run(main())


def test_client_certificates(run: Run, authority: Authority, tmp_path: Path) -> None:
    async def main() -> None:
        async with agent(query(authority, "server") + "&initial=empty", "grpcs") as one:
            assert await outcome(f"grpcs://{one.address}{query(authority, 'client')}") is None
            stranger = Authority("openssl", tmp_path / "stranger")
            stranger.issue("client")
            for shown in (
                query(authority),
                query(stranger, "client").replace(str(stranger.ca), str(authority.ca)),
            ):
                assert isinstance(await outcome(f"grpcs://{one.address}{shown}"), DataSyncError)
            assert one.state == {"config/a": b"1"}

    run(main())


def test_tokens(
    run: Run, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.DEBUG)

    async def main() -> None:
        async with agent(f"?initial=empty&token={TOKEN}") as one:
            for bad in ("", "?token=s3cret", f"?token={TOKEN}x"):
                for scheme in ("grpc", "grpc+watch"):
                    error = await outcome(f"{scheme}://{one.address}{bad}")
                    assert isinstance(error, Unauthorized), (scheme, bad)
                    assert "wants a token" in str(error)
            assert await outcome(f"grpc://{one.address}?token={TOKEN}") is None
            monkeypatch.setenv("DATASYNC_TOKEN", TOKEN)
            assert await outcome(f"grpc+watch://{one.address}") is None
            async with client(one.address) as stub:
                for metadata in (
                    (),
                    (("authorization", "Bearer x"),),
                    (("authorization", f"Basic {TOKEN}"),),
                ):
                    with pytest.raises(grpc.aio.AioRpcError) as caught:
                        await stub.ping(msg.PingRequest(), metadata=metadata)
                    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
                reply = await stub.ping(
                    msg.PingRequest(), metadata=(("authorization", f"bearer {TOKEN}"),)
                )
                assert reply.message == "it works"
            assert TOKEN not in str(one.sync.status()) + repr(one.sync.status())

    run(main())
    assert TOKEN not in caplog.text


def test_whoever_is_not_let_in_hears_it_though_grpc_broke_the_call(run: Run) -> None:
    """A ping tells: of a call that the server ends while it is being written to,
    grpc forgets the status.
    """
    broken, refused = grpc.StatusCode.INTERNAL, grpc.StatusCode.UNAUTHENTICATED
    methods = ("Watch", "List", "Get", "CatchUp", "Commit", "Replace")

    async def main() -> None:
        answers = {f"/datasync.v1.DataSync/{method}": broken for method in methods}
        async with (
            answering(answers | {"/msg.DataMsgService/ping": refused}) as port,
            asyncio.timeout(60),
        ):
            source = open_url(f"grpc+watch://127.0.0.1:{port}")
            calls: list[Callable[[], Awaitable[object]]] = [
                lambda: source.open(["a/"]),
                lambda: source.page("a/", None, 10),
                lambda: source.get("a/1"),
                lambda: source.commit([Put("a/1", b"1")]),
                lambda: source.replace([]),
            ]
            for call in calls:
                with pytest.raises(Unauthorized):
                    await call()
            await source.aclose()

    run(main())


def test_beyond_this_machine_only_with_something_to_show(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    [port] = free_ports(1)

    async def main() -> None:
        sync = DataSync(f"grpc://0.0.0.0:{port}?initial=empty")
        sync.watch("w", "")
        with pytest.raises(BadUrl, match="listening beyond this machine needs a token"):
            await sync.start()

    run(main())
    for address in (f"0.0.0.0:{port}", f"[::]:{port}", f"grpc://0.0.0.0:{port}"):
        assert command_line(["serve", "memory://", "--grpc", address]) == 2
        assert "listening beyond this machine needs a token" in capsys.readouterr().err
    assert command_line(["serve", "memory://"]) == 2
    assert "takes an address to listen on" in capsys.readouterr().err
    assert command_line(["serve", "memory://", "--grpc", f"http://127.0.0.1:{port}"]) == 2
    assert "takes host:port" in capsys.readouterr().err


def test_health_and_reflection(run: Run) -> None:
    async def main() -> None:
        async with (
            agent(f"?initial=empty&token={TOKEN}") as one,
            grpc.aio.insecure_channel(one.address) as channel,
        ):
            health: Any = health_pb2_grpc.HealthStub(channel)
            # also without the token
            for service in ("", "msg.DataMsgService", "datasync.v1.DataSync"):
                reply = await health.Check(health_pb2.HealthCheckRequest(service=service))
                assert reply.status == health_pb2.HealthCheckResponse.SERVING
            reflection: Any = reflection_pb2_grpc.ServerReflectionStub(channel)

            async def ask(**question: Any) -> reflection_pb2.ServerReflectionResponse:
                call = reflection.ServerReflectionInfo(
                    metadata=(("authorization", f"Bearer {TOKEN}"),)
                )
                await call.write(reflection_pb2.ServerReflectionRequest(**question))
                await call.done_writing()
                answer: reflection_pb2.ServerReflectionResponse = await call.read()
                return answer

            listed = (await ask(list_services="")).list_services_response.service
            names = {service.name for service in listed}
            assert {"msg.DataMsgService", "datasync.v1.DataSync", "grpc.health.v1.Health"} <= names
            answer = await ask(file_containing_symbol="msg.DataMsgService")
            file = FileDescriptorProto.FromString(
                answer.file_descriptor_response.file_descriptor_proto[0]
            )
            assert [method.name for method in file.service[0].method] == [
                "dataChanges",
                "dataResyncs",
                "ping",
            ]
            # what Go's generated code has; its .proto file is older
            fields = {
                f"{message.name}.{field.name}": field.number
                for message in file.message_type
                for field in message.field
            }
            assert fields["Seq.seq"] == 4
            assert fields["DataChangeReply.changeId"] == 1
            assert fields["DataChangeReply.error"] == 5
            assert fields["DataResyncReplies.dataResyncs"] == 3

    run(main())
