from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class PutDel(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PUT: _ClassVar[PutDel]
    DEL: _ClassVar[PutDel]
PUT: PutDel
DEL: PutDel

class Seq(_message.Message):
    __slots__ = ("originator", "seqCreatedSec", "seq")
    ORIGINATOR_FIELD_NUMBER: _ClassVar[int]
    SEQCREATEDSEC_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    originator: str
    seqCreatedSec: int
    seq: int
    def __init__(self, originator: _Optional[str] = ..., seqCreatedSec: _Optional[int] = ..., seq: _Optional[int] = ...) -> None: ...

class Error(_message.Message):
    __slots__ = ("message",)
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    message: str
    def __init__(self, message: _Optional[str] = ...) -> None: ...

class DataChangeRequest(_message.Message):
    __slots__ = ("key", "operationType", "content", "content_type")
    KEY_FIELD_NUMBER: _ClassVar[int]
    OPERATIONTYPE_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    CONTENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    key: str
    operationType: PutDel
    content: bytes
    content_type: str
    def __init__(self, key: _Optional[str] = ..., operationType: _Optional[_Union[PutDel, str]] = ..., content: _Optional[bytes] = ..., content_type: _Optional[str] = ...) -> None: ...

class DataChangeReply(_message.Message):
    __slots__ = ("changeId", "key", "operationType", "result", "error")
    CHANGEID_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    OPERATIONTYPE_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    changeId: Seq
    key: str
    operationType: PutDel
    result: int
    error: Error
    def __init__(self, changeId: _Optional[_Union[Seq, _Mapping]] = ..., key: _Optional[str] = ..., operationType: _Optional[_Union[PutDel, str]] = ..., result: _Optional[int] = ..., error: _Optional[_Union[Error, _Mapping]] = ...) -> None: ...

class DataResyncRequest(_message.Message):
    __slots__ = ("key", "content", "content_type")
    KEY_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    CONTENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    key: str
    content: bytes
    content_type: str
    def __init__(self, key: _Optional[str] = ..., content: _Optional[bytes] = ..., content_type: _Optional[str] = ...) -> None: ...

class DataResyncRequests(_message.Message):
    __slots__ = ("msgId", "dataResyncs")
    MSGID_FIELD_NUMBER: _ClassVar[int]
    DATARESYNCS_FIELD_NUMBER: _ClassVar[int]
    msgId: Seq
    dataResyncs: _containers.RepeatedCompositeFieldContainer[DataResyncRequest]
    def __init__(self, msgId: _Optional[_Union[Seq, _Mapping]] = ..., dataResyncs: _Optional[_Iterable[_Union[DataResyncRequest, _Mapping]]] = ...) -> None: ...

class DataResyncReply(_message.Message):
    __slots__ = ("resyncId", "key", "result", "error")
    RESYNCID_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    resyncId: Seq
    key: str
    result: int
    error: Error
    def __init__(self, resyncId: _Optional[_Union[Seq, _Mapping]] = ..., key: _Optional[str] = ..., result: _Optional[int] = ..., error: _Optional[_Union[Error, _Mapping]] = ...) -> None: ...

class DataResyncReplies(_message.Message):
    __slots__ = ("msgId", "error", "dataResyncs")
    class DataResyncsReplies(_message.Message):
        __slots__ = ("replies",)
        REPLIES_FIELD_NUMBER: _ClassVar[int]
        replies: _containers.RepeatedCompositeFieldContainer[DataResyncReply]
        def __init__(self, replies: _Optional[_Iterable[_Union[DataResyncReply, _Mapping]]] = ...) -> None: ...
    MSGID_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    DATARESYNCS_FIELD_NUMBER: _ClassVar[int]
    msgId: Seq
    error: Error
    dataResyncs: DataResyncReplies.DataResyncsReplies
    def __init__(self, msgId: _Optional[_Union[Seq, _Mapping]] = ..., error: _Optional[_Union[Error, _Mapping]] = ..., dataResyncs: _Optional[_Union[DataResyncReplies.DataResyncsReplies, _Mapping]] = ...) -> None: ...

class PingRequest(_message.Message):
    __slots__ = ("message",)
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    message: str
    def __init__(self, message: _Optional[str] = ...) -> None: ...

class PingReply(_message.Message):
    __slots__ = ("message",)
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    message: str
    def __init__(self, message: _Optional[str] = ...) -> None: ...
