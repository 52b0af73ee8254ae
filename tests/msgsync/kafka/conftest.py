"""One broker for all tests of this package that do no harm to it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.helpers.kafka.kafka_server import KafkaServer
from tests.helpers.servers import started


# not the session: it costs a twentieth of a core as long as it runs
@pytest.fixture(scope="package")
def server() -> Iterator[KafkaServer]:
    with started(KafkaServer) as server:
        yield server
