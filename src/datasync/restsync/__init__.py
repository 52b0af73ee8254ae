"""REST (Go: restsync): an agent that clients push to, any source served over HTTP, the
client, and the status page."""

from __future__ import annotations

from datasync.restsync.agent import RestSource
from datasync.restsync.app import RestApp

__all__ = ["RestApp", "RestSource"]
