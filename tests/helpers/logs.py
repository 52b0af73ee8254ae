"""What the code under test has logged."""

from __future__ import annotations

import logging

import pytest

__all__ = ["logged"]


def logged(
    caplog: pytest.LogCaptureFixture, level: int = logging.NOTSET
) -> list[logging.LogRecord]:
    """The records from `level` on, without those that an earlier test may be the reason for.

    grpc has one completion queue for all the event loops of a process: a call that ends after its
    loop was closed makes the next loop log that, whatever runs there.
    """
    return [
        record
        for record in caplog.records
        if record.levelno >= level
        and "PollerCompletionQueue._handle_events" not in record.getMessage()
    ]
