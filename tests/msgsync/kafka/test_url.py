"""What kafka:// URLs may say, and how wrong ones are told off."""

from __future__ import annotations

from pathlib import Path

import pytest

from datasync import BadUrl, open_url
from datasync.msgsync.kafka import KafkaSource


def test_brokers_and_topic() -> None:
    source = open_url("kafka://one,two:9093,[::1]:9094/my-topic_1.x?timeout=3")
    assert isinstance(source, KafkaSource)
    assert source._access.brokers == (("one", 9092), ("two", 9093), ("::1", 9094))
    assert source._access.topic == "my-topic_1.x"
    assert source._access.timeout == 3
    assert source._access.tls is None


def test_user_and_password_are_not_shown() -> None:
    source = open_url("kafka://alice:se%2Fcret@host/topic?sasl=scram-sha-512")
    assert isinstance(source, KafkaSource)
    assert (source._access.user, source._access.password, source._access.sasl) == (
        "alice",
        "se/cret",
        "SCRAM-SHA-512",
    )
    for text in (repr(source._access), source.name, repr(source)):
        assert "cret" not in text


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("kafka://host", "is not a topic"),
        ("kafka://host/", "is not a topic"),
        ("kafka://host/a/b", "is not a topic"),
        ("kafka://host/a b", "is not a topic"),
        ("kafka:///topic", "is not a host"),
        ("kafka://host:99999/topic", "is not a host"),
        ("kafka://:secret@host/topic", "a password without a user"),
        ("kafka://host/topic?sasl=plain", "sasl= without a user"),
        ("kafka://alice:x@host/topic?sasl=kerberos", "sasl= takes plain"),
        ("kafka://host/topic?partitions=3", "add create=1"),
        ("kafka://host/topic?create=1&partitions=0", "partitions= takes an integer >= 1"),
        ("kafka://host/topic?ca=x.pem", "write kafkas://"),
        (f"kafkas://host/topic?cert={__file__}", "belong together"),
        ("kafkas://host/topic?ca=/nowhere/x.pem", "/nowhere/x.pem"),
        ("kafka://host/topic?colour=1", "unknown query key 'colour'"),
    ],
)
def test_wrong_ones(url: str, why: str) -> None:
    with pytest.raises(BadUrl) as caught:
        open_url(url)
    assert why in str(caught.value)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_certificate(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nothing")
    with pytest.raises(BadUrl, match="must be PEM files"):
        open_url(f"kafkas://host/topic?ca={tmp_path / 'ca.pem'}")
