from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Colour(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RED: _ClassVar[Colour]
    GREEN: _ClassVar[Colour]
RED: Colour
GREEN: Colour

class Old(_message.Message):
    __slots__ = ("name", "number", "flag", "raw", "colour", "colours", "inner", "twofold", "lump", "numbers", "text")
    class Lump(_message.Message):
        __slots__ = ("content",)
        CONTENT_FIELD_NUMBER: _ClassVar[int]
        content: str
        def __init__(self, content: _Optional[str] = ...) -> None: ...
    class NumbersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    FLAG_FIELD_NUMBER: _ClassVar[int]
    RAW_FIELD_NUMBER: _ClassVar[int]
    COLOUR_FIELD_NUMBER: _ClassVar[int]
    COLOURS_FIELD_NUMBER: _ClassVar[int]
    INNER_FIELD_NUMBER: _ClassVar[int]
    TWOFOLD_FIELD_NUMBER: _ClassVar[int]
    LUMP_FIELD_NUMBER: _ClassVar[int]
    NUMBERS_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    name: str
    number: int
    flag: bool
    raw: bytes
    colour: Colour
    colours: _containers.RepeatedScalarFieldContainer[Colour]
    inner: Old
    twofold: float
    lump: Old.Lump
    numbers: _containers.ScalarMap[str, int]
    text: str
    def __init__(self, name: _Optional[str] = ..., number: _Optional[int] = ..., flag: bool = ..., raw: _Optional[bytes] = ..., colour: _Optional[_Union[Colour, str]] = ..., colours: _Optional[_Iterable[_Union[Colour, str]]] = ..., inner: _Optional[_Union[Old, _Mapping]] = ..., twofold: _Optional[float] = ..., lump: _Optional[_Union[Old.Lump, _Mapping]] = ..., numbers: _Optional[_Mapping[str, int]] = ..., text: _Optional[str] = ...) -> None: ...
