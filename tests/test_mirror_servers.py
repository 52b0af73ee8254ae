"""`datasync mirror` between two servers that are killed and restarted in turn."""

from __future__ import annotations

import asyncio
import sys

import pytest

from datasync import DataSync
from tests.helpers.etcd.etcd_server import DEBIAN, etcd_server
from tests.helpers.load import QUICK, writing
from tests.helpers.redis.redis_server import redis_server
from tests.helpers.servers import until

KEYS = 30_000


async def everything(url: str) -> dict[str, bytes]:
    """All keys and values."""
    async with DataSync(url) as sync:
        return {kv.key: kv.raw async for kv in sync.list("")}


@pytest.mark.once
@pytest.mark.alone("crowd")
def test_30_000_keys_from_etcd_to_redis_while_both_are_restarted() -> None:
    async def main() -> None:
        extra = ["--max-txn-ops", "20000", "--max-request-bytes", str(20 << 20)]
        async with etcd_server(DEBIAN, extra=extra) as etcd, redis_server() as redis:
            async with DataSync(etcd.url, **QUICK) as filling:
                for start in range(0, KEYS, 10_000):
                    txn = filling.txn()
                    for number in range(start, start + 10_000):
                        txn.put(f"config/interface/{number:06}", b'{"name": "if%d"}' % number)
                    await txn.commit()
            await redis.fill({"config/left over": b"1", "w/left over": b"1"})
            command = [sys.executable, "-m", "datasync", "mirror", etcd.url, redis.url]
            mirror = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
            try:
                assert mirror.stdout is not None
                async with asyncio.timeout(60):
                    first = await mirror.stdout.readline()
                assert first.startswith(b"in step: 30,000 keys"), first
                async with writing(etcd.url) as load:
                    for server in (redis, etcd, redis, etcd):
                        await load.more(50)
                        await server.kill()
                        await asyncio.sleep(0.2)  # the mirror tries, and fails
                        await server.start()
                    await load.more(50)
                wanted = await everything(etcd.url)
                assert len(wanted) > KEYS

                async def equal() -> bool:
                    return await everything(redis.url) == wanted

                await until(equal, "both hold the same", 60)
                assert mirror.returncode is None
            finally:
                if mirror.returncode is None:
                    mirror.terminate()
                await mirror.communicate()

    asyncio.run(main())
