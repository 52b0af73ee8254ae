"""Certificates for tests."""

from __future__ import annotations

from datasync.testing.chaos.authority import Authority

__all__ = ["Authority"]
