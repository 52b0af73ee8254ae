from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Verdict(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    UNKNOWN: _ClassVar[Verdict]
    ACCEPTED: _ClassVar[Verdict]
    REFUSED: _ClassVar[Verdict]
    FAILED: _ClassVar[Verdict]
    OVERDUE: _ClassVar[Verdict]
    UNWATCHED: _ClassVar[Verdict]
    PENDING: _ClassVar[Verdict]
UNKNOWN: Verdict
ACCEPTED: Verdict
REFUSED: Verdict
FAILED: Verdict
OVERDUE: Verdict
UNWATCHED: Verdict
PENDING: Verdict

class CommitRequest(_message.Message):
    __slots__ = ("id", "keys", "values", "ttls", "deletes", "checks", "reply", "traceparent")
    ID_FIELD_NUMBER: _ClassVar[int]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    TTLS_FIELD_NUMBER: _ClassVar[int]
    DELETES_FIELD_NUMBER: _ClassVar[int]
    CHECKS_FIELD_NUMBER: _ClassVar[int]
    REPLY_FIELD_NUMBER: _ClassVar[int]
    TRACEPARENT_FIELD_NUMBER: _ClassVar[int]
    id: int
    keys: _containers.RepeatedScalarFieldContainer[str]
    values: _containers.RepeatedScalarFieldContainer[bytes]
    ttls: _containers.RepeatedScalarFieldContainer[float]
    deletes: _containers.RepeatedCompositeFieldContainer[Delete]
    checks: _containers.RepeatedCompositeFieldContainer[Check]
    reply: bool
    traceparent: str
    def __init__(self, id: _Optional[int] = ..., keys: _Optional[_Iterable[str]] = ..., values: _Optional[_Iterable[bytes]] = ..., ttls: _Optional[_Iterable[float]] = ..., deletes: _Optional[_Iterable[_Union[Delete, _Mapping]]] = ..., checks: _Optional[_Iterable[_Union[Check, _Mapping]]] = ..., reply: bool = ..., traceparent: _Optional[str] = ...) -> None: ...

class Delete(_message.Message):
    __slots__ = ("key", "prefix")
    KEY_FIELD_NUMBER: _ClassVar[int]
    PREFIX_FIELD_NUMBER: _ClassVar[int]
    key: str
    prefix: bool
    def __init__(self, key: _Optional[str] = ..., prefix: bool = ...) -> None: ...

class Check(_message.Message):
    __slots__ = ("key", "revision")
    KEY_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    key: str
    revision: int
    def __init__(self, key: _Optional[str] = ..., revision: _Optional[int] = ...) -> None: ...

class CommitRequests(_message.Message):
    __slots__ = ("commits",)
    COMMITS_FIELD_NUMBER: _ClassVar[int]
    commits: _containers.RepeatedCompositeFieldContainer[CommitRequest]
    def __init__(self, commits: _Optional[_Iterable[_Union[CommitRequest, _Mapping]]] = ...) -> None: ...

class KeyOutcome(_message.Message):
    __slots__ = ("verdict", "reason")
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    verdict: Verdict
    reason: str
    def __init__(self, verdict: _Optional[_Union[Verdict, str]] = ..., reason: _Optional[str] = ...) -> None: ...

class CommitReply(_message.Message):
    __slots__ = ("id", "revision", "existed", "verdict", "reasons", "error", "outcomes")
    class ReasonsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class OutcomesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: KeyOutcome
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[KeyOutcome, _Mapping]] = ...) -> None: ...
    ID_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    EXISTED_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    REASONS_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    OUTCOMES_FIELD_NUMBER: _ClassVar[int]
    id: int
    revision: int
    existed: _containers.RepeatedScalarFieldContainer[bool]
    verdict: Verdict
    reasons: _containers.ScalarMap[str, str]
    error: Error
    outcomes: _containers.MessageMap[str, KeyOutcome]
    def __init__(self, id: _Optional[int] = ..., revision: _Optional[int] = ..., existed: _Optional[_Iterable[bool]] = ..., verdict: _Optional[_Union[Verdict, str]] = ..., reasons: _Optional[_Mapping[str, str]] = ..., error: _Optional[_Union[Error, _Mapping]] = ..., outcomes: _Optional[_Mapping[str, KeyOutcome]] = ...) -> None: ...

class Error(_message.Message):
    __slots__ = ("name", "message", "key", "revision")
    NAME_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    name: str
    message: str
    key: str
    revision: int
    def __init__(self, name: _Optional[str] = ..., message: _Optional[str] = ..., key: _Optional[str] = ..., revision: _Optional[int] = ...) -> None: ...

class CommitReplies(_message.Message):
    __slots__ = ("replies",)
    REPLIES_FIELD_NUMBER: _ClassVar[int]
    replies: _containers.RepeatedCompositeFieldContainer[CommitReply]
    def __init__(self, replies: _Optional[_Iterable[_Union[CommitReply, _Mapping]]] = ...) -> None: ...

class ReplaceRequest(_message.Message):
    __slots__ = ("keys", "values", "traceparent")
    KEYS_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    TRACEPARENT_FIELD_NUMBER: _ClassVar[int]
    keys: _containers.RepeatedScalarFieldContainer[str]
    values: _containers.RepeatedScalarFieldContainer[bytes]
    traceparent: str
    def __init__(self, keys: _Optional[_Iterable[str]] = ..., values: _Optional[_Iterable[bytes]] = ..., traceparent: _Optional[str] = ...) -> None: ...

class GetRequest(_message.Message):
    __slots__ = ("key",)
    KEY_FIELD_NUMBER: _ClassVar[int]
    key: str
    def __init__(self, key: _Optional[str] = ...) -> None: ...

class GetReply(_message.Message):
    __slots__ = ("value", "revision")
    VALUE_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    value: bytes
    revision: int
    def __init__(self, value: _Optional[bytes] = ..., revision: _Optional[int] = ...) -> None: ...

class ListRequest(_message.Message):
    __slots__ = ("prefix", "limit", "keys_only")
    PREFIX_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    KEYS_ONLY_FIELD_NUMBER: _ClassVar[int]
    prefix: str
    limit: int
    keys_only: bool
    def __init__(self, prefix: _Optional[str] = ..., limit: _Optional[int] = ..., keys_only: bool = ...) -> None: ...

class ListReply(_message.Message):
    __slots__ = ("items", "more")
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    MORE_FIELD_NUMBER: _ClassVar[int]
    items: Items
    more: bool
    def __init__(self, items: _Optional[_Union[Items, _Mapping]] = ..., more: bool = ...) -> None: ...

class Items(_message.Message):
    __slots__ = ("keys", "values", "revisions")
    KEYS_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    REVISIONS_FIELD_NUMBER: _ClassVar[int]
    keys: _containers.RepeatedScalarFieldContainer[str]
    values: _containers.RepeatedScalarFieldContainer[bytes]
    revisions: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, keys: _Optional[_Iterable[str]] = ..., values: _Optional[_Iterable[bytes]] = ..., revisions: _Optional[_Iterable[int]] = ...) -> None: ...

class WatchRequest(_message.Message):
    __slots__ = ("scopes", "resume", "added")
    SCOPES_FIELD_NUMBER: _ClassVar[int]
    RESUME_FIELD_NUMBER: _ClassVar[int]
    ADDED_FIELD_NUMBER: _ClassVar[int]
    scopes: _containers.RepeatedScalarFieldContainer[str]
    resume: str
    added: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, scopes: _Optional[_Iterable[str]] = ..., resume: _Optional[str] = ..., added: _Optional[_Iterable[str]] = ...) -> None: ...

class CatchUpRequest(_message.Message):
    __slots__ = ("stream",)
    STREAM_FIELD_NUMBER: _ClassVar[int]
    stream: str
    def __init__(self, stream: _Optional[str] = ...) -> None: ...

class CatchUpReply(_message.Message):
    __slots__ = ("position",)
    POSITION_FIELD_NUMBER: _ClassVar[int]
    position: str
    def __init__(self, position: _Optional[str] = ...) -> None: ...

class WatchReply(_message.Message):
    __slots__ = ("frames",)
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    frames: _containers.RepeatedCompositeFieldContainer[Frame]
    def __init__(self, frames: _Optional[_Iterable[_Union[Frame, _Mapping]]] = ...) -> None: ...

class Frame(_message.Message):
    __slots__ = ("begin", "chunk", "end", "commit", "progress")
    BEGIN_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    COMMIT_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    begin: SnapshotBegin
    chunk: Items
    end: SnapshotEnd
    commit: Commit
    progress: Progress
    def __init__(self, begin: _Optional[_Union[SnapshotBegin, _Mapping]] = ..., chunk: _Optional[_Union[Items, _Mapping]] = ..., end: _Optional[_Union[SnapshotEnd, _Mapping]] = ..., commit: _Optional[_Union[Commit, _Mapping]] = ..., progress: _Optional[_Union[Progress, _Mapping]] = ...) -> None: ...

class SnapshotBegin(_message.Message):
    __slots__ = ("scopes",)
    SCOPES_FIELD_NUMBER: _ClassVar[int]
    scopes: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, scopes: _Optional[_Iterable[str]] = ...) -> None: ...

class SnapshotEnd(_message.Message):
    __slots__ = ("position", "revision", "history")
    POSITION_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    HISTORY_FIELD_NUMBER: _ClassVar[int]
    position: str
    revision: int
    history: str
    def __init__(self, position: _Optional[str] = ..., revision: _Optional[int] = ..., history: _Optional[str] = ...) -> None: ...

class Commit(_message.Message):
    __slots__ = ("position", "revision", "keys", "values", "deleted", "more")
    POSITION_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    DELETED_FIELD_NUMBER: _ClassVar[int]
    MORE_FIELD_NUMBER: _ClassVar[int]
    position: str
    revision: int
    keys: _containers.RepeatedScalarFieldContainer[str]
    values: _containers.RepeatedScalarFieldContainer[bytes]
    deleted: _containers.RepeatedScalarFieldContainer[str]
    more: bool
    def __init__(self, position: _Optional[str] = ..., revision: _Optional[int] = ..., keys: _Optional[_Iterable[str]] = ..., values: _Optional[_Iterable[bytes]] = ..., deleted: _Optional[_Iterable[str]] = ..., more: bool = ...) -> None: ...

class Progress(_message.Message):
    __slots__ = ("position", "revision")
    POSITION_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    position: str
    revision: int
    def __init__(self, position: _Optional[str] = ..., revision: _Optional[int] = ...) -> None: ...
