"""docs/from-go.md against the exported names of the Go package,
and against the names of this one.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

DOCUMENT = Path(__file__).parent.parent / "docs" / "from-go.md"

# Everything that the documentation of the Go package v1.0.5 exports: constants, types, their fields
# and methods
ROOT = """
DefaultNotifTimeout
AggregatedRegistration AggregatedRegistration.Registrations AggregatedRegistration.Close
CallbackResult CallbackResult.Done
ChangeEvent ChangeValue
CompositeKVProtoWatcher CompositeKVProtoWatcher.Adapters CompositeKVProtoWatcher.Watch
CompositeKVProtoWriter CompositeKVProtoWriter.Adapters CompositeKVProtoWriter.Put
DelOption DelOption.DelOptionMark DelOptionMarker DelOptionMarker.DelOptionMark
KeyProtoValWriter KeyProtoValWriter.Put
KeyVal KeyValIterator KeyValIterator.GetNext
KeyValProtoWatcher KeyValProtoWatcher.Watch
LazyValue LazyValue.GetValue LazyValueWithRev
ProtoWatchResp PutDel Put Delete
PutOption PutOption.PutOptionMark PutOptionMarker PutOptionMarker.PutOptionMark
ResyncEvent ResyncEvent.GetValues
WatchRegistration WatchRegistration.Close
WithChangeType WithChangeType.GetChangeType
WithKey WithKey.GetKey
WithPrefixOpt WithPrefix
WithPrevValue WithPrevValue.GetPrevValue
WithRevision WithRevision.GetRevision
WithTTLOpt WithTTLOpt.TTL WithTTL
""".split()

# Its packages, with the names whose counterparts users of the Go packages will look for
PACKAGES = {
    "datasync": ROOT,
    "kvdbsync": "Plugin Plugin.Watch Plugin.Put Plugin.Delete Plugin.OfDifferentAgent Plugin.Close Deps".split(),
    "kvdbsync/local": "Get BytesTxn NewBytesTxn BytesTxn.Put BytesTxn.Delete BytesTxn.Commit "
    "BytesTxnItem "
    "ProtoTxn NewProtoTxn ProtoTxn.Put ProtoTxn.Delete ProtoTxn.Commit ProtoTxnItem ProtoTxnItem.GetValue".split(),
    "msgsync": "PubPlugin PubPlugin.Put Deps Cfg Cfg.Topic".split(),
    "grpcsync": "Adapter NewAdapter Adapter.Watch Adapter.Close Plugin Deps DataMsgServiceServer "
    "NewDataMsgServiceServer DataMsgServiceServer.DataChanges DataMsgServiceServer.DataResyncs "
    "DataMsgServiceServer.Ping".split(),
    "restsync": "Adapter NewAdapter Adapter.Watch Adapter.RegisterTestHandler".split(),
    "resync": "Subscriber Subscriber.Register Registration NewRegistration Registration.StatusChan "
    "StatusEvent "
    "StatusEvent.ResyncStatus StatusEvent.Ack Status Started NotActive Reporter "
    "Reporter.ReportError Plugin "
    "Plugin.Register Deps".split(),
    "syncbase": "Registry NewRegistry Registry.WatchDataBase Registry.Watch Registry.Subscriptions "
    "Registry.PropagateChanges Registry.PropagateResync Registry.LastRev PrevRevisions "
    "NewLatestRev WatchDataReg "
    "Subscription Adapter Change NewChange NewChangeBytes ChangeIterator NewChangeIterator "
    "ChangeEvent DoneChannel "
    "NewDoneChannel DoneCallback AggregateDone KVIterator NewKVIterator KeyVal NewKeyVal "
    "KeyValBytes NewKeyValBytes "
    "ResyncEventDB NewResyncEventDB NewResyncEvent".split(),
    "syncbase/msg": "PutDel DataChangeRequest DataChangeReply DataResyncRequest DataResyncRequests "
    "DataResyncReply "
    "DataResyncReplies DataMsgRequest DataMsgReply ResyncNeededCallback Seq Error PingRequest "
    "PingReply "
    "ChangeWatchResp NewChangeWatchResp DataMsgRequestToKVs".split(),
}


def rows() -> Iterator[tuple[str, str, str]]:
    """(package, names in Go, counterpart) of each row of the document."""
    package = ""
    for line in DOCUMENT.read_text().splitlines():
        if line.startswith("## "):
            package = line.removeprefix("## ")
        elif line.startswith("| `"):
            cells = [cell.strip() for cell in line.strip("|").split(" | ")]
            yield package, cells[0].lstrip("| "), cells[1]


def spans(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


@pytest.mark.parametrize("package", PACKAGES)
def test_every_exported_name_has_a_row_with_a_counterpart(package: str) -> None:
    found = {
        name: here for where, names, here in rows() if where == package for name in spans(names)
    }
    assert [name for name in PACKAGES[package] if not found.get(name)] == []


def test_the_root_package_lists_nothing_that_go_does_not_have() -> None:
    assert [
        name
        for where, names, _ in rows()
        if where == "datasync"
        for name in spans(names)
        if name not in ROOT
    ] == []


def test_every_name_of_this_package_exists() -> None:
    text = DOCUMENT.read_text()
    names = sorted({match[0] for match in re.finditer(r"(?<=`)datasync(\.\w+)+", text)})
    assert len(names) > 40
    assert [name for name in names if not exists(name)] == []


def exists(dotted: str) -> bool:
    """Whether the dotted name can be reached from the package: an attribute,
    a field or a module.
    """
    found: Any = importlib.import_module("datasync")
    path = "datasync"
    for part in dotted.split(".")[1:]:
        path = f"{path}.{part}"
        if hasattr(found, part):
            found = getattr(found, part)
        elif isinstance(found, type):  # an attribute that only instances have
            return any(part in vars(base).get("__annotations__", {}) for base in found.__mro__)
        else:
            try:
                found = importlib.import_module(path)
            except ImportError:
                return False
    return True
