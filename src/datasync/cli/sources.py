"""From the URL and options of a command to its DataSync."""

from __future__ import annotations

import argparse

from datasync import Backoff, DataSync, Source, open_url
from datasync.kvdbsync.memory import MemorySource

__all__ = ["connect", "existing", "hears_verdicts"]

# A person waits: come back sooner than a service would.
_BACKOFF = Backoff(maximum=2.0)


def existing(url: str) -> Source:
    """The source of a command that does not write: where there is no store, that is
    an error, and none is made."""
    source = open_url(url)
    source.create = False
    return source


def connect(source: Source, options: argparse.Namespace) -> DataSync:
    """The DataSync for the keys that --prefix or --label name."""
    return DataSync(
        source, prefix=options.prefix, label=options.label, retry=_BACKOFF, reconnect=_BACKOFF
    )


def hears_verdicts(source: Source) -> bool:
    """Whether a write waits for the verdict of watches elsewhere: nobody
    watches what is only in this process.

    To be asked once connected, when a source that stands for another has learnt of it.
    """
    return (source.capabilities.reply or source.forwards_verdicts) and not isinstance(
        source, MemorySource
    )
