from google.protobuf import any_pb2 as _any_pb2
from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import empty_pb2 as _empty_pb2
from google.protobuf import field_mask_pb2 as _field_mask_pb2
from google.protobuf import struct_pb2 as _struct_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf import wrappers_pb2 as _wrappers_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Plain(_message.Message):
    __slots__ = ("at", "took", "mask", "anything", "nothing", "flag", "i32", "i64", "u32", "u64", "single", "twofold", "text", "raw", "many_times", "many_numbers", "durations", "texts", "then", "perhaps", "things", "inner")
    class DurationsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: _duration_pb2.Duration
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ...) -> None: ...
    class TextsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: int
        value: _wrappers_pb2.StringValue
        def __init__(self, key: _Optional[int] = ..., value: _Optional[_Union[_wrappers_pb2.StringValue, _Mapping]] = ...) -> None: ...
    AT_FIELD_NUMBER: _ClassVar[int]
    TOOK_FIELD_NUMBER: _ClassVar[int]
    MASK_FIELD_NUMBER: _ClassVar[int]
    ANYTHING_FIELD_NUMBER: _ClassVar[int]
    NOTHING_FIELD_NUMBER: _ClassVar[int]
    FLAG_FIELD_NUMBER: _ClassVar[int]
    I32_FIELD_NUMBER: _ClassVar[int]
    I64_FIELD_NUMBER: _ClassVar[int]
    U32_FIELD_NUMBER: _ClassVar[int]
    U64_FIELD_NUMBER: _ClassVar[int]
    SINGLE_FIELD_NUMBER: _ClassVar[int]
    TWOFOLD_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    RAW_FIELD_NUMBER: _ClassVar[int]
    MANY_TIMES_FIELD_NUMBER: _ClassVar[int]
    MANY_NUMBERS_FIELD_NUMBER: _ClassVar[int]
    DURATIONS_FIELD_NUMBER: _ClassVar[int]
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    THEN_FIELD_NUMBER: _ClassVar[int]
    PERHAPS_FIELD_NUMBER: _ClassVar[int]
    THINGS_FIELD_NUMBER: _ClassVar[int]
    INNER_FIELD_NUMBER: _ClassVar[int]
    at: _timestamp_pb2.Timestamp
    took: _duration_pb2.Duration
    mask: _field_mask_pb2.FieldMask
    anything: _any_pb2.Any
    nothing: _empty_pb2.Empty
    flag: _wrappers_pb2.BoolValue
    i32: _wrappers_pb2.Int32Value
    i64: _wrappers_pb2.Int64Value
    u32: _wrappers_pb2.UInt32Value
    u64: _wrappers_pb2.UInt64Value
    single: _wrappers_pb2.FloatValue
    twofold: _wrappers_pb2.DoubleValue
    text: _wrappers_pb2.StringValue
    raw: _wrappers_pb2.BytesValue
    many_times: _containers.RepeatedCompositeFieldContainer[_timestamp_pb2.Timestamp]
    many_numbers: _containers.RepeatedCompositeFieldContainer[_wrappers_pb2.Int64Value]
    durations: _containers.MessageMap[str, _duration_pb2.Duration]
    texts: _containers.MessageMap[int, _wrappers_pb2.StringValue]
    then: _timestamp_pb2.Timestamp
    perhaps: _wrappers_pb2.BoolValue
    things: _containers.RepeatedCompositeFieldContainer[_any_pb2.Any]
    inner: Plain
    def __init__(self, at: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., took: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., mask: _Optional[_Union[_field_mask_pb2.FieldMask, _Mapping]] = ..., anything: _Optional[_Union[_any_pb2.Any, _Mapping]] = ..., nothing: _Optional[_Union[_empty_pb2.Empty, _Mapping]] = ..., flag: _Optional[_Union[_wrappers_pb2.BoolValue, _Mapping]] = ..., i32: _Optional[_Union[_wrappers_pb2.Int32Value, _Mapping]] = ..., i64: _Optional[_Union[_wrappers_pb2.Int64Value, _Mapping]] = ..., u32: _Optional[_Union[_wrappers_pb2.UInt32Value, _Mapping]] = ..., u64: _Optional[_Union[_wrappers_pb2.UInt64Value, _Mapping]] = ..., single: _Optional[_Union[_wrappers_pb2.FloatValue, _Mapping]] = ..., twofold: _Optional[_Union[_wrappers_pb2.DoubleValue, _Mapping]] = ..., text: _Optional[_Union[_wrappers_pb2.StringValue, _Mapping]] = ..., raw: _Optional[_Union[_wrappers_pb2.BytesValue, _Mapping]] = ..., many_times: _Optional[_Iterable[_Union[_timestamp_pb2.Timestamp, _Mapping]]] = ..., many_numbers: _Optional[_Iterable[_Union[_wrappers_pb2.Int64Value, _Mapping]]] = ..., durations: _Optional[_Mapping[str, _duration_pb2.Duration]] = ..., texts: _Optional[_Mapping[int, _wrappers_pb2.StringValue]] = ..., then: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., perhaps: _Optional[_Union[_wrappers_pb2.BoolValue, _Mapping]] = ..., things: _Optional[_Iterable[_Union[_any_pb2.Any, _Mapping]]] = ..., inner: _Optional[_Union[Plain, _Mapping]] = ...) -> None: ...

class Trees(_message.Message):
    __slots__ = ("structure", "value", "list", "null", "values", "structures", "value_of", "nulls", "some_value", "some_null", "some_text")
    class ValueOfEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: _struct_pb2.Value
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[_struct_pb2.Value, _Mapping]] = ...) -> None: ...
    STRUCTURE_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    LIST_FIELD_NUMBER: _ClassVar[int]
    NULL_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    STRUCTURES_FIELD_NUMBER: _ClassVar[int]
    VALUE_OF_FIELD_NUMBER: _ClassVar[int]
    NULLS_FIELD_NUMBER: _ClassVar[int]
    SOME_VALUE_FIELD_NUMBER: _ClassVar[int]
    SOME_NULL_FIELD_NUMBER: _ClassVar[int]
    SOME_TEXT_FIELD_NUMBER: _ClassVar[int]
    structure: _struct_pb2.Struct
    value: _struct_pb2.Value
    list: _struct_pb2.ListValue
    null: _struct_pb2.NullValue
    values: _containers.RepeatedCompositeFieldContainer[_struct_pb2.Value]
    structures: _containers.RepeatedCompositeFieldContainer[_struct_pb2.Struct]
    value_of: _containers.MessageMap[str, _struct_pb2.Value]
    nulls: _containers.RepeatedScalarFieldContainer[_struct_pb2.NullValue]
    some_value: _struct_pb2.Value
    some_null: _struct_pb2.NullValue
    some_text: str
    def __init__(self, structure: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., value: _Optional[_Union[_struct_pb2.Value, _Mapping]] = ..., list: _Optional[_Union[_struct_pb2.ListValue, _Mapping]] = ..., null: _Optional[_Union[_struct_pb2.NullValue, str]] = ..., values: _Optional[_Iterable[_Union[_struct_pb2.Value, _Mapping]]] = ..., structures: _Optional[_Iterable[_Union[_struct_pb2.Struct, _Mapping]]] = ..., value_of: _Optional[_Mapping[str, _struct_pb2.Value]] = ..., nulls: _Optional[_Iterable[_Union[_struct_pb2.NullValue, str]]] = ..., some_value: _Optional[_Union[_struct_pb2.Value, _Mapping]] = ..., some_null: _Optional[_Union[_struct_pb2.NullValue, str]] = ..., some_text: _Optional[str] = ...) -> None: ...
