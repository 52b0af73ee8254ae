"""One Watch/Publish API that keeps the parts of an application in step with
the data they depend on."""

from datasync.capabilities import Capabilities
from datasync.errors import *  # noqa: F403 - the names are those of errors.__all__
from datasync.errors import __all__ as _errors
from datasync.events import Change, ChangeEvent, Event, KeyVal, Op, ResyncEvent
from datasync.kvdbsync.memory import local
from datasync.layers import Layer
from datasync.options import DEFAULT_NOTIF_TIMEOUT, Backoff
from datasync.outcome import Accepted, Verdict
from datasync.report import KeyReport, Report, Reports
from datasync.source import Source
from datasync.status import Status, WatchState
from datasync.sync import DataSync
from datasync.transports import open_url, schemes
from datasync.version import __version__ as __version__
from datasync.view import View
from datasync.watch import Watch
from datasync.writing import Txn

__all__ = [
    "DEFAULT_NOTIF_TIMEOUT",
    "Accepted",
    "Backoff",
    "Capabilities",
    "Change",
    "ChangeEvent",
    "DataSync",
    "Event",
    "KeyReport",
    "KeyVal",
    "Layer",
    "Op",
    "Report",
    "Reports",
    "ResyncEvent",
    "Source",
    "Status",
    "Txn",
    "Verdict",
    "View",
    "Watch",
    "WatchState",
    "local",
    "open_url",
    "schemes",
    *_errors,
]
