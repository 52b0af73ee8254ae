"""One broker for all tests of a worker that do no harm to it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.kafka.kafka_server import KafkaServer
from tests.servers import started


@pytest.fixture(scope="session")
def server() -> Iterator[KafkaServer]:
    with started(KafkaServer) as server:
        yield server
