from google.protobuf import any_pb2 as _any_pb2
from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import empty_pb2 as _empty_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf import wrappers_pb2 as _wrappers_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ZERO: _ClassVar[Kind]
    ONE: _ClassVar[Kind]
    BELOW: _ClassVar[Kind]
ZERO: Kind
ONE: Kind
BELOW: Kind

class Part(_message.Message):
    __slots__ = ("a_name", "number", "part")
    A_NAME_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    PART_FIELD_NUMBER: _ClassVar[int]
    a_name: str
    number: int
    part: Part
    def __init__(self, a_name: _Optional[str] = ..., number: _Optional[int] = ..., part: _Optional[_Union[Part, _Mapping]] = ...) -> None: ...

class Whole(_message.Message):
    __slots__ = ("name", "i32_value", "i64", "u64", "flag", "twofold", "single", "raw", "kind", "part", "parts", "part_of", "text_of", "kind_of", "numbers", "texts", "raws", "kinds", "singles", "a_text", "number_2", "a_part", "some_raw", "a_kind", "then", "at", "took", "anything", "nothing", "maybe_number", "maybe_text", "maybe_raw", "times", "durations")
    class PartOfEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Part
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Part, _Mapping]] = ...) -> None: ...
    class TextOfEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: int
        value: str
        def __init__(self, key: _Optional[int] = ..., value: _Optional[str] = ...) -> None: ...
    class KindOfEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: int
        value: Kind
        def __init__(self, key: _Optional[int] = ..., value: _Optional[_Union[Kind, str]] = ...) -> None: ...
    class DurationsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: _duration_pb2.Duration
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    I32_VALUE_FIELD_NUMBER: _ClassVar[int]
    I64_FIELD_NUMBER: _ClassVar[int]
    U64_FIELD_NUMBER: _ClassVar[int]
    FLAG_FIELD_NUMBER: _ClassVar[int]
    TWOFOLD_FIELD_NUMBER: _ClassVar[int]
    SINGLE_FIELD_NUMBER: _ClassVar[int]
    RAW_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    PART_FIELD_NUMBER: _ClassVar[int]
    PARTS_FIELD_NUMBER: _ClassVar[int]
    PART_OF_FIELD_NUMBER: _ClassVar[int]
    TEXT_OF_FIELD_NUMBER: _ClassVar[int]
    KIND_OF_FIELD_NUMBER: _ClassVar[int]
    NUMBERS_FIELD_NUMBER: _ClassVar[int]
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    RAWS_FIELD_NUMBER: _ClassVar[int]
    KINDS_FIELD_NUMBER: _ClassVar[int]
    SINGLES_FIELD_NUMBER: _ClassVar[int]
    A_TEXT_FIELD_NUMBER: _ClassVar[int]
    NUMBER_2_FIELD_NUMBER: _ClassVar[int]
    A_PART_FIELD_NUMBER: _ClassVar[int]
    SOME_RAW_FIELD_NUMBER: _ClassVar[int]
    A_KIND_FIELD_NUMBER: _ClassVar[int]
    THEN_FIELD_NUMBER: _ClassVar[int]
    AT_FIELD_NUMBER: _ClassVar[int]
    TOOK_FIELD_NUMBER: _ClassVar[int]
    ANYTHING_FIELD_NUMBER: _ClassVar[int]
    NOTHING_FIELD_NUMBER: _ClassVar[int]
    MAYBE_NUMBER_FIELD_NUMBER: _ClassVar[int]
    MAYBE_TEXT_FIELD_NUMBER: _ClassVar[int]
    MAYBE_RAW_FIELD_NUMBER: _ClassVar[int]
    TIMES_FIELD_NUMBER: _ClassVar[int]
    DURATIONS_FIELD_NUMBER: _ClassVar[int]
    name: str
    i32_value: int
    i64: int
    u64: int
    flag: bool
    twofold: float
    single: float
    raw: bytes
    kind: Kind
    part: Part
    parts: _containers.RepeatedCompositeFieldContainer[Part]
    part_of: _containers.MessageMap[str, Part]
    text_of: _containers.ScalarMap[int, str]
    kind_of: _containers.ScalarMap[int, Kind]
    numbers: _containers.RepeatedScalarFieldContainer[int]
    texts: _containers.RepeatedScalarFieldContainer[str]
    raws: _containers.RepeatedScalarFieldContainer[bytes]
    kinds: _containers.RepeatedScalarFieldContainer[Kind]
    singles: _containers.RepeatedScalarFieldContainer[float]
    a_text: str
    number_2: int
    a_part: Part
    some_raw: bytes
    a_kind: Kind
    then: _timestamp_pb2.Timestamp
    at: _timestamp_pb2.Timestamp
    took: _duration_pb2.Duration
    anything: _any_pb2.Any
    nothing: _empty_pb2.Empty
    maybe_number: _wrappers_pb2.Int64Value
    maybe_text: _wrappers_pb2.StringValue
    maybe_raw: _wrappers_pb2.BytesValue
    times: _containers.RepeatedCompositeFieldContainer[_timestamp_pb2.Timestamp]
    durations: _containers.MessageMap[str, _duration_pb2.Duration]
    def __init__(self, name: _Optional[str] = ..., i32_value: _Optional[int] = ..., i64: _Optional[int] = ..., u64: _Optional[int] = ..., flag: bool = ..., twofold: _Optional[float] = ..., single: _Optional[float] = ..., raw: _Optional[bytes] = ..., kind: _Optional[_Union[Kind, str]] = ..., part: _Optional[_Union[Part, _Mapping]] = ..., parts: _Optional[_Iterable[_Union[Part, _Mapping]]] = ..., part_of: _Optional[_Mapping[str, Part]] = ..., text_of: _Optional[_Mapping[int, str]] = ..., kind_of: _Optional[_Mapping[int, Kind]] = ..., numbers: _Optional[_Iterable[int]] = ..., texts: _Optional[_Iterable[str]] = ..., raws: _Optional[_Iterable[bytes]] = ..., kinds: _Optional[_Iterable[_Union[Kind, str]]] = ..., singles: _Optional[_Iterable[float]] = ..., a_text: _Optional[str] = ..., number_2: _Optional[int] = ..., a_part: _Optional[_Union[Part, _Mapping]] = ..., some_raw: _Optional[bytes] = ..., a_kind: _Optional[_Union[Kind, str]] = ..., then: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., at: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., took: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., anything: _Optional[_Union[_any_pb2.Any, _Mapping]] = ..., nothing: _Optional[_Union[_empty_pb2.Empty, _Mapping]] = ..., maybe_number: _Optional[_Union[_wrappers_pb2.Int64Value, _Mapping]] = ..., maybe_text: _Optional[_Union[_wrappers_pb2.StringValue, _Mapping]] = ..., maybe_raw: _Optional[_Union[_wrappers_pb2.BytesValue, _Mapping]] = ..., times: _Optional[_Iterable[_Union[_timestamp_pb2.Timestamp, _Mapping]]] = ..., durations: _Optional[_Mapping[str, _duration_pb2.Duration]] = ...) -> None: ...
