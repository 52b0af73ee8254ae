from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf.internal import python_message as _python_message
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Colour(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RED: _ClassVar[Colour]
    GREEN: _ClassVar[Colour]
    ALSO_GREEN: _ClassVar[Colour]
    BLUE: _ClassVar[Colour]

class Shape(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    NONE: _ClassVar[Shape]
    ROUND: _ClassVar[Shape]
RED: Colour
GREEN: Colour
ALSO_GREEN: Colour
BLUE: Colour
NONE: Shape
ROUND: Shape
EXT_NUMBER_FIELD_NUMBER: _ClassVar[int]
ext_number: _descriptor.FieldDescriptor
EXT_MESSAGE_FIELD_NUMBER: _ClassVar[int]
ext_message: _descriptor.FieldDescriptor
EXT_WORDS_FIELD_NUMBER: _ClassVar[int]
ext_words: _descriptor.FieldDescriptor
EXT_COLOUR_FIELD_NUMBER: _ClassVar[int]
ext_colour: _descriptor.FieldDescriptor

class Old(_message.Message):
    __slots__ = ("name", "i32", "i64", "u64", "flag", "twofold", "single", "raw", "text", "colour", "colours", "packed", "inner", "shape_of", "lump", "piece", "number", "word", "heap")
    Extensions: _python_message._ExtensionDict
    class ShapeOfEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Shape
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Shape, str]] = ...) -> None: ...
    class Lump(_message.Message):
        __slots__ = ("content", "weight")
        CONTENT_FIELD_NUMBER: _ClassVar[int]
        WEIGHT_FIELD_NUMBER: _ClassVar[int]
        content: str
        weight: int
        def __init__(self, content: _Optional[str] = ..., weight: _Optional[int] = ...) -> None: ...
    class Piece(_message.Message):
        __slots__ = ("content",)
        CONTENT_FIELD_NUMBER: _ClassVar[int]
        content: str
        def __init__(self, content: _Optional[str] = ...) -> None: ...
    class Heap(_message.Message):
        __slots__ = ("size",)
        SIZE_FIELD_NUMBER: _ClassVar[int]
        size: int
        def __init__(self, size: _Optional[int] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    I32_FIELD_NUMBER: _ClassVar[int]
    I64_FIELD_NUMBER: _ClassVar[int]
    U64_FIELD_NUMBER: _ClassVar[int]
    FLAG_FIELD_NUMBER: _ClassVar[int]
    TWOFOLD_FIELD_NUMBER: _ClassVar[int]
    SINGLE_FIELD_NUMBER: _ClassVar[int]
    RAW_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    COLOUR_FIELD_NUMBER: _ClassVar[int]
    COLOURS_FIELD_NUMBER: _ClassVar[int]
    PACKED_FIELD_NUMBER: _ClassVar[int]
    INNER_FIELD_NUMBER: _ClassVar[int]
    SHAPE_OF_FIELD_NUMBER: _ClassVar[int]
    LUMP_FIELD_NUMBER: _ClassVar[int]
    PIECE_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    WORD_FIELD_NUMBER: _ClassVar[int]
    HEAP_FIELD_NUMBER: _ClassVar[int]
    name: str
    i32: int
    i64: int
    u64: int
    flag: bool
    twofold: float
    single: float
    raw: bytes
    text: str
    colour: Colour
    colours: _containers.RepeatedScalarFieldContainer[Colour]
    packed: _containers.RepeatedScalarFieldContainer[int]
    inner: Old
    shape_of: _containers.ScalarMap[str, Shape]
    lump: Old.Lump
    piece: _containers.RepeatedCompositeFieldContainer[Old.Piece]
    number: int
    word: str
    heap: Old.Heap
    def __init__(self, name: _Optional[str] = ..., i32: _Optional[int] = ..., i64: _Optional[int] = ..., u64: _Optional[int] = ..., flag: bool = ..., twofold: _Optional[float] = ..., single: _Optional[float] = ..., raw: _Optional[bytes] = ..., text: _Optional[str] = ..., colour: _Optional[_Union[Colour, str]] = ..., colours: _Optional[_Iterable[_Union[Colour, str]]] = ..., packed: _Optional[_Iterable[int]] = ..., inner: _Optional[_Union[Old, _Mapping]] = ..., shape_of: _Optional[_Mapping[str, Shape]] = ..., lump: _Optional[_Union[Old.Lump, _Mapping]] = ..., piece: _Optional[_Iterable[_Union[Old.Piece, _Mapping]]] = ..., number: _Optional[int] = ..., word: _Optional[str] = ..., heap: _Optional[_Union[Old.Heap, _Mapping]] = ...) -> None: ...
