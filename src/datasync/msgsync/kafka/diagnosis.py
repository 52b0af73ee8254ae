"""What can be found out of a topic: settings, replicas, leave to read and write."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from datasync.certificates import encryption_findings
from datasync.findings import Finding, Severity
from datasync.msgsync.kafka import errors
from datasync.msgsync.kafka.cluster import Cluster, Settings
from datasync.msgsync.kafka.wire import TopicMetadata

__all__ = ["findings_of"]

_READ, _WRITE, _DESCRIBE_CONFIGS = 1 << 3, 1 << 4, 1 << 10
"""Bits of the operations that a user is authorized to."""
_UNTOLD = -(1 << 31)
_HOUR = 3600.0


async def findings_of(cluster: Cluster) -> list[Finding]:
    """How the topic is."""
    settings = await cluster.settings()  # that it is there, too
    answer = await cluster.any(TopicMetadata(cluster.access.topic, leave=True))
    with errors.understanding(cluster.name):
        _, _, _, _, partitions, leave, _ = answer.topics[0]
        brokers = [(host, port) for _, host, port, _, _ in answer.brokers]
        found = [
            Finding(
                "server",
                Severity.OK,
                f"{len(brokers)} brokers, {len(partitions)} partitions; a broker does not tell "
                "its version",
            ),
            *_replicas(partitions),
        ]
    found += [*_leave(leave), *_settings(settings, known=bool(leave & _DESCRIBE_CONFIGS))]
    access = cluster.access
    for host, port in brokers:
        found += await encryption_findings(
            host, port, access.tls, secret=access.password is not None, timeout=access.timeout
        )
    return found


def _replicas(partitions: Sequence[Any]) -> list[Finding]:
    least = min(len(replicas) for _, _, _, _, replicas, *_ in partitions)
    behind = [
        index for _, index, _, _, replicas, alive, *_ in partitions if len(alive) < len(replicas)
    ]

    if behind:
        return [
            Finding(
                "replicas",
                Severity.WARNING,
                f"replicas of {len(behind)} partitions are gone or behind, for example of "
                f"{behind[0]}",
                "bring back the brokers that hold them",
            )
        ]

    if least == 1:
        return [
            Finding(
                "replicas",
                Severity.WARNING,
                "partitions have a single replica: they are lost with its broker",
                "three replicas and min.insync.replicas=2, where there are three brokers",
            )
        ]

    return [Finding("replicas", Severity.OK, f"at least {least} of each partition, all in sync")]


def _leave(bits: int) -> list[Finding]:
    if bits == _UNTOLD:
        return [Finding("permissions", Severity.OK, "the brokers do not tell what it may do")]
    found = []
    if not bits & _READ:
        found.append(
            Finding("permissions", Severity.ERROR, "may not read the topic", "an ACL with READ")
        )
    if not bits & _WRITE:
        found.append(
            Finding(
                "permissions",
                Severity.WARNING,
                "may not write to the topic",
                "where it is to write, an ACL with WRITE",
            )
        )
    return found or [Finding("permissions", Severity.OK, "may read and write")]


def _settings(settings: Settings, *, known: bool) -> list[Finding]:
    if not known or settings.retention is None:
        return [Finding("settings", Severity.OK, "it may not read the settings of the topic")]

    found = []
    if settings.policy != {"compact"}:
        policy = ",".join(sorted(settings.policy))
        found.append(
            Finding(
                "settings",
                Severity.WARNING,
                f"cleanup.policy={policy}: Kafka forgets values after the retention, then "
                "snapshots lack them",
                "set cleanup.policy=compact",
            )
        )

    if settings.retention < _HOUR:
        found.append(
            Finding(
                "settings",
                Severity.WARNING,
                f"delete.retention.ms keeps tombstones for {settings.retention:g} s: who was away "
                "for longer has to read everything again",
                "set delete.retention.ms to a day",
            )
        )

    return found or [Finding("settings", Severity.OK, "compacted, and tombstones are kept")]
