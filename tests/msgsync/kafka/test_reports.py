"""What agents report in a topic of several partitions, where nothing orders one key and another."""

from __future__ import annotations

from collections.abc import Callable, Coroutine

from datasync import Reports, Verdict
from datasync.testing.chaos import kafka_topics as topics
from datasync.testing.contract.reporting import not_applied
from tests.helpers.kafka.kafka_server import KafkaServer
from tests.helpers.reports.fleet import CONFIG, STATUS, agent_of, reading

Run = Callable[[Coroutine[object, object, None]], None]


def test_reports_and_answers_over_several_partitions(run: Run, server: KafkaServer) -> None:
    async def main() -> None:
        topic = topics.new_name()
        await topics.make(server.port, topic, partitions=3)
        url, ask = f"{server.url}/{topic}", Reports(STATUS, timeout=60)

        async with reading(url, agent_of(url)) as (ctl, readers):
            await readers.sees()
            await ctl.put(CONFIG + "a", b"good", confirm=ask)
            for name in "bcd":
                error = await not_applied(ctl.put(CONFIG + name, b"bad", confirm=ask))
                assert error.verdict is Verdict.REFUSED
            await readers.sees(b="refused", c="refused", d="refused")
            await ctl.delete(CONFIG + "b", confirm=ask)
            await readers.sees(c="refused", d="refused")

    run(main())
