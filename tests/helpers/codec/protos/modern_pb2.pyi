from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Level(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    LEVEL_NONE: _ClassVar[Level]
    LEVEL_LOW: _ClassVar[Level]
    LEVEL_HIGH: _ClassVar[Level]
    LEVEL_BELOW: _ClassVar[Level]
LEVEL_NONE: Level
LEVEL_LOW: Level
LEVEL_HIGH: Level
LEVEL_BELOW: Level

class Scalars(_message.Message):
    __slots__ = ("i32", "i64", "u32", "u64", "s32", "s64", "f32", "f64", "sf32", "sf64", "single", "twofold", "flag", "text", "raw", "level")
    I32_FIELD_NUMBER: _ClassVar[int]
    I64_FIELD_NUMBER: _ClassVar[int]
    U32_FIELD_NUMBER: _ClassVar[int]
    U64_FIELD_NUMBER: _ClassVar[int]
    S32_FIELD_NUMBER: _ClassVar[int]
    S64_FIELD_NUMBER: _ClassVar[int]
    F32_FIELD_NUMBER: _ClassVar[int]
    F64_FIELD_NUMBER: _ClassVar[int]
    SF32_FIELD_NUMBER: _ClassVar[int]
    SF64_FIELD_NUMBER: _ClassVar[int]
    SINGLE_FIELD_NUMBER: _ClassVar[int]
    TWOFOLD_FIELD_NUMBER: _ClassVar[int]
    FLAG_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    RAW_FIELD_NUMBER: _ClassVar[int]
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    i32: int
    i64: int
    u32: int
    u64: int
    s32: int
    s64: int
    f32: int
    f64: int
    sf32: int
    sf64: int
    single: float
    twofold: float
    flag: bool
    text: str
    raw: bytes
    level: Level
    def __init__(self, i32: _Optional[int] = ..., i64: _Optional[int] = ..., u32: _Optional[int] = ..., u64: _Optional[int] = ..., s32: _Optional[int] = ..., s64: _Optional[int] = ..., f32: _Optional[int] = ..., f64: _Optional[int] = ..., sf32: _Optional[int] = ..., sf64: _Optional[int] = ..., single: _Optional[float] = ..., twofold: _Optional[float] = ..., flag: bool = ..., text: _Optional[str] = ..., raw: _Optional[bytes] = ..., level: _Optional[_Union[Level, str]] = ...) -> None: ...

class Repeated(_message.Message):
    __slots__ = ("i32", "i64", "u32", "u64", "single", "twofold", "flag", "text", "raw", "level", "many_scalars")
    I32_FIELD_NUMBER: _ClassVar[int]
    I64_FIELD_NUMBER: _ClassVar[int]
    U32_FIELD_NUMBER: _ClassVar[int]
    U64_FIELD_NUMBER: _ClassVar[int]
    SINGLE_FIELD_NUMBER: _ClassVar[int]
    TWOFOLD_FIELD_NUMBER: _ClassVar[int]
    FLAG_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    RAW_FIELD_NUMBER: _ClassVar[int]
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    MANY_SCALARS_FIELD_NUMBER: _ClassVar[int]
    i32: _containers.RepeatedScalarFieldContainer[int]
    i64: _containers.RepeatedScalarFieldContainer[int]
    u32: _containers.RepeatedScalarFieldContainer[int]
    u64: _containers.RepeatedScalarFieldContainer[int]
    single: _containers.RepeatedScalarFieldContainer[float]
    twofold: _containers.RepeatedScalarFieldContainer[float]
    flag: _containers.RepeatedScalarFieldContainer[bool]
    text: _containers.RepeatedScalarFieldContainer[str]
    raw: _containers.RepeatedScalarFieldContainer[bytes]
    level: _containers.RepeatedScalarFieldContainer[Level]
    many_scalars: _containers.RepeatedCompositeFieldContainer[Scalars]
    def __init__(self, i32: _Optional[_Iterable[int]] = ..., i64: _Optional[_Iterable[int]] = ..., u32: _Optional[_Iterable[int]] = ..., u64: _Optional[_Iterable[int]] = ..., single: _Optional[_Iterable[float]] = ..., twofold: _Optional[_Iterable[float]] = ..., flag: _Optional[_Iterable[bool]] = ..., text: _Optional[_Iterable[str]] = ..., raw: _Optional[_Iterable[bytes]] = ..., level: _Optional[_Iterable[_Union[Level, str]]] = ..., many_scalars: _Optional[_Iterable[_Union[Scalars, _Mapping]]] = ...) -> None: ...

class Presence(_message.Message):
    __slots__ = ("opt_i32", "opt_u64", "opt_double", "opt_flag", "opt_text", "opt_raw", "opt_level", "opt_scalars", "scalars")
    OPT_I32_FIELD_NUMBER: _ClassVar[int]
    OPT_U64_FIELD_NUMBER: _ClassVar[int]
    OPT_DOUBLE_FIELD_NUMBER: _ClassVar[int]
    OPT_FLAG_FIELD_NUMBER: _ClassVar[int]
    OPT_TEXT_FIELD_NUMBER: _ClassVar[int]
    OPT_RAW_FIELD_NUMBER: _ClassVar[int]
    OPT_LEVEL_FIELD_NUMBER: _ClassVar[int]
    OPT_SCALARS_FIELD_NUMBER: _ClassVar[int]
    SCALARS_FIELD_NUMBER: _ClassVar[int]
    opt_i32: int
    opt_u64: int
    opt_double: float
    opt_flag: bool
    opt_text: str
    opt_raw: bytes
    opt_level: Level
    opt_scalars: Scalars
    scalars: Scalars
    def __init__(self, opt_i32: _Optional[int] = ..., opt_u64: _Optional[int] = ..., opt_double: _Optional[float] = ..., opt_flag: bool = ..., opt_text: _Optional[str] = ..., opt_raw: _Optional[bytes] = ..., opt_level: _Optional[_Union[Level, str]] = ..., opt_scalars: _Optional[_Union[Scalars, _Mapping]] = ..., scalars: _Optional[_Union[Scalars, _Mapping]] = ...) -> None: ...

class Choices(_message.Message):
    __slots__ = ("i32", "some_text", "raw", "level", "scalars", "twofold", "big_number", "flag", "left", "right", "single", "plain")
    I32_FIELD_NUMBER: _ClassVar[int]
    SOME_TEXT_FIELD_NUMBER: _ClassVar[int]
    RAW_FIELD_NUMBER: _ClassVar[int]
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    SCALARS_FIELD_NUMBER: _ClassVar[int]
    TWOFOLD_FIELD_NUMBER: _ClassVar[int]
    BIG_NUMBER_FIELD_NUMBER: _ClassVar[int]
    FLAG_FIELD_NUMBER: _ClassVar[int]
    LEFT_FIELD_NUMBER: _ClassVar[int]
    RIGHT_FIELD_NUMBER: _ClassVar[int]
    SINGLE_FIELD_NUMBER: _ClassVar[int]
    PLAIN_FIELD_NUMBER: _ClassVar[int]
    i32: int
    some_text: str
    raw: bytes
    level: Level
    scalars: Scalars
    twofold: float
    big_number: int
    flag: bool
    left: str
    right: Choices
    single: float
    plain: str
    def __init__(self, i32: _Optional[int] = ..., some_text: _Optional[str] = ..., raw: _Optional[bytes] = ..., level: _Optional[_Union[Level, str]] = ..., scalars: _Optional[_Union[Scalars, _Mapping]] = ..., twofold: _Optional[float] = ..., big_number: _Optional[int] = ..., flag: bool = ..., left: _Optional[str] = ..., right: _Optional[_Union[Choices, _Mapping]] = ..., single: _Optional[float] = ..., plain: _Optional[str] = ...) -> None: ...

class Maps(_message.Message):
    __slots__ = ("by_i32", "by_i64", "by_u32", "by_u64", "by_s32", "by_s64", "by_f32", "by_f64", "by_sf32", "by_sf64", "by_bool", "by_text", "level_by_text", "maps_by_text")
    class ByI32Entry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: int
        value: str
        def __init__(self, key: _Optional[int] = ..., value: _Optional[str] = ...) -> None: ...
    class ByI64Entry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: int
        value: int
        def __init__(self, key: _Optional[int] = ..., value: _Optional[int] = ...) -> None: ...
    class ByU32Entry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: int
        value: float
        def __init__(self, key: _Optional[int] = ..., value: _Optional[float] = ...) -> None: ...
    class ByU64Entry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: int
        value: float
        def __init__(self, key: _Optional[int] = ..., value: _Optional[float] = ...) -> None: ...
    class ByS32Entry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: int
        value: bool
        def __init__(self, key: _Optional[int] = ..., value: bool = ...) -> None: ...
    class ByS64Entry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: int
        value: bytes
        def __init__(self, key: _Optional[int] = ..., value: _Optional[bytes] = ...) -> None: ...
    class ByF32Entry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: int
        value: Level
        def __init__(self, key: _Optional[int] = ..., value: _Optional[_Union[Level, str]] = ...) -> None: ...
    class ByF64Entry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: int
        value: Scalars
        def __init__(self, key: _Optional[int] = ..., value: _Optional[_Union[Scalars, _Mapping]] = ...) -> None: ...
    class BySf32Entry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: int
        value: int
        def __init__(self, key: _Optional[int] = ..., value: _Optional[int] = ...) -> None: ...
    class BySf64Entry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: int
        value: str
        def __init__(self, key: _Optional[int] = ..., value: _Optional[str] = ...) -> None: ...
    class ByBoolEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: bool
        value: str
        def __init__(self, key: bool = ..., value: _Optional[str] = ...) -> None: ...
    class ByTextEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class LevelByTextEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Level
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Level, str]] = ...) -> None: ...
    class MapsByTextEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Maps
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Maps, _Mapping]] = ...) -> None: ...
    BY_I32_FIELD_NUMBER: _ClassVar[int]
    BY_I64_FIELD_NUMBER: _ClassVar[int]
    BY_U32_FIELD_NUMBER: _ClassVar[int]
    BY_U64_FIELD_NUMBER: _ClassVar[int]
    BY_S32_FIELD_NUMBER: _ClassVar[int]
    BY_S64_FIELD_NUMBER: _ClassVar[int]
    BY_F32_FIELD_NUMBER: _ClassVar[int]
    BY_F64_FIELD_NUMBER: _ClassVar[int]
    BY_SF32_FIELD_NUMBER: _ClassVar[int]
    BY_SF64_FIELD_NUMBER: _ClassVar[int]
    BY_BOOL_FIELD_NUMBER: _ClassVar[int]
    BY_TEXT_FIELD_NUMBER: _ClassVar[int]
    LEVEL_BY_TEXT_FIELD_NUMBER: _ClassVar[int]
    MAPS_BY_TEXT_FIELD_NUMBER: _ClassVar[int]
    by_i32: _containers.ScalarMap[int, str]
    by_i64: _containers.ScalarMap[int, int]
    by_u32: _containers.ScalarMap[int, float]
    by_u64: _containers.ScalarMap[int, float]
    by_s32: _containers.ScalarMap[int, bool]
    by_s64: _containers.ScalarMap[int, bytes]
    by_f32: _containers.ScalarMap[int, Level]
    by_f64: _containers.MessageMap[int, Scalars]
    by_sf32: _containers.ScalarMap[int, int]
    by_sf64: _containers.ScalarMap[int, str]
    by_bool: _containers.ScalarMap[bool, str]
    by_text: _containers.ScalarMap[str, str]
    level_by_text: _containers.ScalarMap[str, Level]
    maps_by_text: _containers.MessageMap[str, Maps]
    def __init__(self, by_i32: _Optional[_Mapping[int, str]] = ..., by_i64: _Optional[_Mapping[int, int]] = ..., by_u32: _Optional[_Mapping[int, float]] = ..., by_u64: _Optional[_Mapping[int, float]] = ..., by_s32: _Optional[_Mapping[int, bool]] = ..., by_s64: _Optional[_Mapping[int, bytes]] = ..., by_f32: _Optional[_Mapping[int, Level]] = ..., by_f64: _Optional[_Mapping[int, Scalars]] = ..., by_sf32: _Optional[_Mapping[int, int]] = ..., by_sf64: _Optional[_Mapping[int, str]] = ..., by_bool: _Optional[_Mapping[bool, str]] = ..., by_text: _Optional[_Mapping[str, str]] = ..., level_by_text: _Optional[_Mapping[str, Level]] = ..., maps_by_text: _Optional[_Mapping[str, Maps]] = ...) -> None: ...

class Names(_message.Message):
    __slots__ = ("snake_case_name", "CamelCase", "given", "with_2_digits", "nested_names", "some_map", "_leading", "self")
    class SomeMapEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    SNAKE_CASE_NAME_FIELD_NUMBER: _ClassVar[int]
    CAMELCASE_FIELD_NUMBER: _ClassVar[int]
    GIVEN_FIELD_NUMBER: _ClassVar[int]
    WITH_2_DIGITS_FIELD_NUMBER: _ClassVar[int]
    NESTED_NAMES_FIELD_NUMBER: _ClassVar[int]
    SOME_MAP_FIELD_NUMBER: _ClassVar[int]
    _LEADING_FIELD_NUMBER: _ClassVar[int]
    SELF_FIELD_NUMBER: _ClassVar[int]
    CLASS_FIELD_NUMBER: _ClassVar[int]
    snake_case_name: str
    CamelCase: int
    given: str
    with_2_digits: _containers.RepeatedScalarFieldContainer[str]
    nested_names: Names
    some_map: _containers.ScalarMap[str, int]
    _leading: int
    self: str
    def __init__(self, snake_case_name: _Optional[str] = ..., CamelCase: _Optional[int] = ..., given: _Optional[str] = ..., with_2_digits: _Optional[_Iterable[str]] = ..., nested_names: _Optional[_Union[Names, _Mapping]] = ..., some_map: _Optional[_Mapping[str, int]] = ..., _leading: _Optional[int] = ..., self: _Optional[str] = ..., **kwargs) -> None: ...

class Tree(_message.Message):
    __slots__ = ("label", "children", "only", "named", "left", "right")
    class NamedEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Tree
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Tree, _Mapping]] = ...) -> None: ...
    LABEL_FIELD_NUMBER: _ClassVar[int]
    CHILDREN_FIELD_NUMBER: _ClassVar[int]
    ONLY_FIELD_NUMBER: _ClassVar[int]
    NAMED_FIELD_NUMBER: _ClassVar[int]
    LEFT_FIELD_NUMBER: _ClassVar[int]
    RIGHT_FIELD_NUMBER: _ClassVar[int]
    label: str
    children: _containers.RepeatedCompositeFieldContainer[Tree]
    only: Tree
    named: _containers.MessageMap[str, Tree]
    left: Tree
    right: Tree
    def __init__(self, label: _Optional[str] = ..., children: _Optional[_Iterable[_Union[Tree, _Mapping]]] = ..., only: _Optional[_Union[Tree, _Mapping]] = ..., named: _Optional[_Mapping[str, Tree]] = ..., left: _Optional[_Union[Tree, _Mapping]] = ..., right: _Optional[_Union[Tree, _Mapping]] = ...) -> None: ...

class Interface(_message.Message):
    __slots__ = ("name", "description", "type", "enabled", "phys_address", "mtu", "ip_addresses", "created_at", "primary", "level", "labels")
    class Address(_message.Message):
        __slots__ = ("ip", "prefix_length")
        IP_FIELD_NUMBER: _ClassVar[int]
        PREFIX_LENGTH_FIELD_NUMBER: _ClassVar[int]
        ip: str
        prefix_length: int
        def __init__(self, ip: _Optional[str] = ..., prefix_length: _Optional[int] = ...) -> None: ...
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    ENABLED_FIELD_NUMBER: _ClassVar[int]
    PHYS_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    MTU_FIELD_NUMBER: _ClassVar[int]
    IP_ADDRESSES_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    PRIMARY_FIELD_NUMBER: _ClassVar[int]
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    name: str
    description: str
    type: int
    enabled: bool
    phys_address: str
    mtu: int
    ip_addresses: _containers.RepeatedScalarFieldContainer[str]
    created_at: int
    primary: Interface.Address
    level: Level
    labels: _containers.ScalarMap[str, str]
    def __init__(self, name: _Optional[str] = ..., description: _Optional[str] = ..., type: _Optional[int] = ..., enabled: bool = ..., phys_address: _Optional[str] = ..., mtu: _Optional[int] = ..., ip_addresses: _Optional[_Iterable[str]] = ..., created_at: _Optional[int] = ..., primary: _Optional[_Union[Interface.Address, _Mapping]] = ..., level: _Optional[_Union[Level, str]] = ..., labels: _Optional[_Mapping[str, str]] = ...) -> None: ...
