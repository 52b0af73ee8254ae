"""Which codec serves which type, and everything that is not protobuf."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import subprocess
import sys
import textwrap
import uuid
from typing import Annotated, Any, Literal, NamedTuple, NewType, TypedDict

import msgspec
import pydantic
import pytest

from datasync.codec import Codec, codec_for, encode
from datasync.errors import BadValue, DataSyncError, DecodeError, MissingExtra, UsageError
from tests.helpers.codec.protos.classic_pb2 import Old
from tests.helpers.codec.protos.known_pb2 import Trees
from tests.helpers.codec.protos.modern_pb2 import Interface, Maps, Presence, Repeated, Scalars, Tree


class Colour(enum.Enum):
    RED = "red"


class Route(msgspec.Struct):
    network: str
    metric: int = 0
    hops: list[str] = []
    colour: Colour = Colour.RED


@dataclasses.dataclass
class Host:
    name: str
    ports: list[int]


class Peer(pydantic.BaseModel):
    name: str = pydantic.Field(alias="peerName")
    port: int = pydantic.Field(gt=0)
    inner: list[Peer] = []


@pydantic.dataclasses.dataclass
class Checked:
    port: int = pydantic.Field(gt=0)


VALUES: list[tuple[Any, Any, bytes]] = [
    (bytes, b"\x00\xff", b"\x00\xff"),
    (Route, Route("10.0.0.0/8", 5, ["a"]), b'{"network":"10.0.0.0/8","metric":5,"hops":["a"],"colour":"red"}'),
    (Host, Host("h", [1, 2]), b'{"name":"h","ports":[1,2]}'),
    (Peer, Peer(peerName="p", port=1, inner=[Peer(peerName="q", port=2)]),
     b'{"peerName":"p","port":1,"inner":[{"peerName":"q","port":2,"inner":[]}]}'),
    (Checked, Checked(port=5), b'{"port":5}'),
    (dict, {"b": 1, "a": [None, True]}, b'{"a":[null,true],"b":1}'),
    (list, [1, "a"], b'[1,"a"]'),
    (str, 'text "\u00e4"', 'text "\u00e4"'.encode()),
    (str, "", b""),
    (int, 5, b"5"),
    (float, 1.5, b"1.5"),
    (bool, True, b"true"),
    (Interface, Interface(name="eth0", mtu=9000), b'{"name":"eth0","mtu":9000}'),
]  # fmt: skip


class Measured(msgspec.Struct):
    number: float | None = None
    inner: dict[str, list[float]] = {}


class Model(pydantic.BaseModel):
    number: float | None = None
    inner: dict[str, list[float]] = {}


@pytest.mark.parametrize("type_", [Measured, Model])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_json_lacks_are_refused(type_: Any, bad: float) -> None:
    for value in (
        type_(number=bad),
        type_(inner={"a": [1.0, bad]}),
        type_(number=1.0, inner={"a": [bad]}),
    ):
        with pytest.raises(
            BadValue, match=r"'k' cannot be stored: JSON has no (nan|-?inf); store what"
        ):
            encode("k", value, "json")
    raw = b'{"number":null,"inner":{"null":[1.0]}}'
    assert encode("k", type_(inner={"null": [1.0]}), "json") == raw
    assert codec_for(type_).decode("k", raw) == type_(inner={"null": [1.0]})


class Pair(NamedTuple):
    first: int
    second: float | None


class Options(TypedDict, total=False):
    weight: Annotated[float | None, msgspec.Meta(title="Weight")]


class Chain(msgspec.Struct):
    name: str | None = None
    following: Chain | None = None
    options: Options | None = None


class Unknown(msgspec.Struct):
    name: str | None = None
    anything: Any = None


class Open(pydantic.BaseModel, extra="allow"):
    name: str | None = None


class OwnForm(pydantic.BaseModel):
    name: str | None = None

    @pydantic.field_serializer("name")
    def number(self, _: str | None) -> float:
        return float("nan")


class Counted(pydantic.BaseModel):
    name: str | None = None

    @pydantic.computed_field
    def number(self) -> float:
        return float("nan")


NAN = float("nan")


@pytest.mark.parametrize(
    "value",
    [
        Pair(1, NAN),
        Chain(following=Chain(options={"weight": NAN})),
        Unknown(anything={"a": [NAN]}),
        {"a": [None, NAN]},
        [NAN],
        Open(name=None, weight=NAN),  # type: ignore[call-arg]
        OwnForm(),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_number_that_json_lacks_is_found_wherever_a_type_may_hold_one(value: object) -> None:
    with pytest.raises(BadValue, match="JSON has no nan"):
        encode("k", value, "json")


def test_a_value_without_floats_costs_no_second_look(monkeypatch: pytest.MonkeyPatch) -> None:
    def looked(*_: object) -> None:
        raise AssertionError("nothing in these types is a float")

    monkeypatch.setattr("datasync.codec.plain._check_numbers", looked)
    assert encode("k", Plain(), "json") == b'{"name":null,"inner":null,"at":null,"routes":{}}'
    assert encode("k", PlainModel(), "json") == b'{"name":null,"inner":null,"at":null}'


class Plain(msgspec.Struct):
    name: str | None = None
    inner: Plain | None = None
    at: datetime.datetime | None = None
    routes: dict[str, list[Route | None]] = {}


class PlainModel(pydantic.BaseModel):
    name: str | None = None
    inner: PlainModel | None = None
    at: datetime.datetime | None = None


def test_a_number_alone_that_json_lacks_is_refused() -> None:
    with pytest.raises(BadValue, match="JSON has no nan; store what"):
        encode("k", float("nan"), "json")


def test_a_model_that_writes_such_numbers_as_text_may() -> None:
    class Lenient(Model, ser_json_inf_nan="strings"):
        pass

    assert encode("k", Lenient(number=float("inf")), "json") == b'{"number":"Infinity","inner":{}}'


@pytest.mark.parametrize("dialect", ["json", "proto"])
@pytest.mark.parametrize(
    ("type_", "value", "raw"), VALUES, ids=lambda value: getattr(value, "__name__", "")
)
def test_values_come_back(type_: Any, value: Any, raw: bytes, dialect: str) -> None:
    codec = codec_for(type_, dialect)
    stored = codec.encode(value)
    if type_ is Interface and dialect == "proto":
        assert stored == value.SerializeToString()
    else:
        assert stored == raw
    assert encode("some/key", value, dialect) == stored
    back = codec.decode("some/key", stored)
    assert back == value
    assert type(back) is type_


def test_a_codec_is_made_once() -> None:
    assert codec_for(Route) is codec_for(Route)
    assert codec_for(Interface) is codec_for(Interface)
    assert codec_for(Interface) is not codec_for(Interface, "proto")


def test_content_types() -> None:
    found = [codec_for(type_).content_type for type_ in (bytes, str, Route, Peer, Interface)]
    assert found == [
        "application/octet-stream",
        "text/plain; charset=utf-8",
        *["application/json"] * 3,
    ]
    assert codec_for(Interface, "proto").content_type == "application/x-protobuf"


def test_whatever_is_like_bytes_is_stored_as_it_is() -> None:
    assert encode("k", bytearray(b"ab"), "json") == b"ab"
    assert encode("k", memoryview(b"abc")[1:], "proto") == b"bc"
    raw = b"same"
    assert encode("k", raw, "json") is raw
    assert codec_for(bytes).decode("k", raw) is raw


def test_types_without_a_class_of_their_own() -> None:
    assert codec_for(dict[int, str]).encode({10: "a", 9: "b"}) == b'{"10":"a","9":"b"}'
    assert codec_for(dict[int, str]).decode("k", b'{"10":"a","9":"b"}') == {10: "a", 9: "b"}
    assert codec_for(dict[str, Route]).decode("k", b'{"a":{"network":"n"}}') == {"a": Route("n")}
    anything: Codec[Any] = codec_for(Any)
    assert anything.decode("k", b"[1]") == [1]
    assert codec_for(Route | None).decode("k", b"null") is None  # type: ignore[arg-type]


Name = NewType("Name", str)


class Level(enum.StrEnum):
    LOW = "low"


@pytest.mark.parametrize(
    "type_",
    [
        str | None,
        str | int,
        list[int] | str,
        Literal["a", "b"],
        Literal["a"] | None,
        Name,
        Name | None,
        Annotated[str, "a comment"],
        Annotated[str, msgspec.Meta(max_length=5)],
        Annotated[str, msgspec.Meta(title="A title")],
        Annotated[Name | int, "a comment"],
    ],
    ids=str,
)
def test_a_type_that_may_be_text_and_is_not_str_itself_is_refused(type_: Any) -> None:
    with pytest.raises(BadValue, match=r"may be text alone.*use str and check it in the handler"):
        codec_for(type_)


@pytest.mark.parametrize(
    ("type_", "value", "raw"),
    [
        (Level, Level.LOW, b'"low"'),
        (Colour | None, Colour.RED, b'"red"'),
        (Literal[1, 2], 2, b"2"),
        (list[str], ["edge"], b'["edge"]'),
        (dict[str, str | None], {"a": "edge"}, b'{"a":"edge"}'),
        (tuple[Name, ...], ("edge",), b'["edge"]'),
        (
            datetime.datetime,
            datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC),
            b'"2026-01-02T03:04:05Z"',
        ),
        (datetime.timedelta, datetime.timedelta(seconds=90), b'"PT90S"'),
        (uuid.UUID, uuid.UUID(int=1), b'"00000000-0000-0000-0000-000000000001"'),
        (decimal.Decimal, decimal.Decimal("1.10"), b'"1.10"'),
        (set[int], {3}, b"[3]"),
    ],
    ids=str,
)
def test_what_only_contains_text_or_is_written_as_text_stays_json(
    type_: Any, value: Any, raw: bytes
) -> None:
    assert encode("k", value, "json") == codec_for(type_).encode(value) == raw
    assert codec_for(type_).decode("k", raw) == value


class Opaque:
    pass


@pytest.mark.parametrize(
    "type_",
    [
        Opaque,
        bytearray,
        memoryview,
        "Route",
        5,
        [1],
        {},
        type(type(None)),
        None,
        type(None),
        object(),
    ],
)
def test_types_that_no_codec_serves(type_: Any) -> None:
    with pytest.raises(BadValue, match=r"use bytes|pass a class"):
        codec_for(type_)


@pytest.mark.parametrize(
    ("value", "what"),
    [
        (Opaque(), "Opaque"),
        (None, "use delete"),
        ({"a": Opaque()}, "Opaque"),
        ({1: {2: object()}}, "object"),
        (Route("n", hops=[Opaque()]), "Opaque"),  # type: ignore[list-item]
        (Old(), "required"),
        ("a\ud800", "character 1 is half of a surrogate pair; store text"),
    ],
)
def test_values_that_cannot_be_stored(value: object, what: str) -> None:
    with pytest.raises(BadValue, match=what) as caught:
        encode("some/key", value, "proto")
    assert "'some/key'" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, UsageError)


@pytest.mark.parametrize("dialect", ["", "yaml", "JSON", None, []])
def test_unknown_dialects(dialect: Any) -> None:
    with pytest.raises(UsageError, match='use "json" or "proto"'):
        codec_for(bytes, dialect)


@pytest.mark.parametrize(
    ("type_", "raw", "reason"),
    [
        (Route, b"", "it is empty"),
        (Route, b"{", "it is not JSON"),
        (Route, b"\xff", "it is not JSON"),
        (Route, b"[]", "Expected `object`, got `array`"),
        (Route, b"{}", "Object missing required field `network`"),
        (Route, b'{"network":"SECRET","metric":"SECRET"}', "Expected `int`, got `str` at $.metric"),
        (
            Route,
            b'{"network":"","colour":"SECRET"}',
            "a value that its type does not allow at $.colour",
        ),
        (Host, b'{"name":"","ports":[1,"SECRET"]}', "Expected `int`, got `str` at $.ports[1]"),
        (dict[str, int], b'{"SECRET":"SECRET"}', "Expected `int`, got `str` at $[...]"),
        (int, b"SECRET", "it is not JSON"),
        (str, b"SECRET\xff", "it is not UTF-8 (byte 6)"),
        (Peer, b"", "json invalid"),
        (Peer, b'{"peerName":"SECRET","port":"SECRET"}', "field 'port': int parsing"),
        (
            Peer,
            b'{"peerName":"","port":1,"inner":[{"peerName":"","port":0}]}',
            "field 'inner.0.port': greater than",
        ),
        (Checked, b'{"port":-1}', "field 'port': greater than"),
    ],
)
def test_the_reason_does_not_quote_the_value(type_: Any, raw: bytes, reason: str) -> None:
    with pytest.raises(DecodeError) as caught:
        codec_for(type_).decode("some/key", raw)
    assert (caught.value.key, caught.value.reason) == ("some/key", reason)
    assert "SECRET" not in str(caught.value)
    assert isinstance(caught.value, DataSyncError)


@pytest.mark.parametrize("raw", [b"\xff", b"\x0a\x05ab", b'{"name":"a"}', b"\x0a\x01\xff"])
def test_what_is_not_the_binary_form(raw: bytes) -> None:
    with pytest.raises(
        DecodeError, match=r"'some/key'.*is not the binary form of datasync.tests.modern.Interface"
    ):
        codec_for(Interface, "proto").decode("some/key", raw)


def test_the_binary_form_keeps_what_the_class_does_not_know() -> None:
    raw = Scalars(i32=1, text="x", level=77).SerializeToString()
    codec = codec_for(Presence, "proto")
    assert codec.encode(codec.decode("k", b"\x9a\x06\x01x")) == b"\x9a\x06\x01x"
    assert codec_for(Scalars, "proto").encode(codec_for(Scalars, "proto").decode("k", raw)) == raw


def test_equal_messages_give_equal_bytes() -> None:
    one = Maps(by_text={"a": "1", "b": "2", "c": "3"}, by_i32={10: "x", 9: "y", -1: "z"})
    other = Maps(by_i32={-1: "z", 9: "y", 10: "x"}, by_text={"c": "3", "b": "2", "a": "1"})
    assert one == other
    for dialect in ("json", "proto"):
        assert codec_for(Maps, dialect).encode(one) == codec_for(Maps, dialect).encode(other)
    assert codec_for(Maps).encode(one) == (
        b'{"by_i32":{"-1":"z","10":"x","9":"y"},"by_text":{"a":"1","b":"2","c":"3"}}'
    )
    trees = [Trees(structure=Trees().structure), Trees(structure=Trees().structure)]
    trees[0].structure.update({"a": 1, "b": {"c": 1, "d": None}})
    trees[1].structure.update({"b": {"d": None, "c": 1}, "a": 1})
    assert codec_for(Trees).encode(trees[0]) == codec_for(Trees).encode(trees[1])


@pytest.mark.parametrize(
    ("message", "raw"),
    [
        (Scalars(), b"{}"),
        (Scalars(i64=-(2**63), u64=2**64 - 1), b'{"i64":-9223372036854775808,"u64":18446744073709551615}'),
        (Scalars(single=0.1, twofold=0.1), b'{"single":0.1,"twofold":0.1}'),
        (Repeated(single=[1.2345678, 8589973504]), b'{"single":[1.2345678,8589974000.0]}'),
        (Scalars(single=float("inf"), twofold=float("nan")), b'{"single":"Infinity","twofold":"NaN"}'),
        (Scalars(twofold=float("-inf")), b'{"twofold":"-Infinity"}'),
        (Scalars(raw=b"\xff\xfe", level=1), b'{"raw":"//4=","level":1}'),
        (Scalars(level=77), b'{"level":77}'),
        (Presence(opt_i32=0, opt_text="", scalars={}), b'{"opt_i32":0,"opt_text":"","scalars":{}}'),
        (Maps(by_bool={True: "t", False: "f"}), b'{"by_bool":{"false":"f","true":"t"}}'),
        (Repeated(single=[0.1, 1e10], raw=[b"", b"a"]), b'{"single":[0.1,10000000000.0],"raw":["","YQ=="]}'),
        (Old(name="", u64=0), b'{"name":"","u64":0}'),
    ],
)  # fmt: skip
def test_how_messages_are_written(message: Any, raw: bytes) -> None:
    assert codec_for(type(message)).encode(message) == raw


def test_extensions_are_written_with_their_names() -> None:
    from tests.helpers.codec.protos import classic_pb2

    message = Old(name="n")
    message.Extensions[classic_pb2.ext_number] = 0
    message.Extensions[classic_pb2.ext_message].lump.content = "c"
    raw = codec_for(Old).encode(message)
    assert raw == (
        b'{"name":"n","[datasync.tests.classic.ext_number]":0,'
        b'"[datasync.tests.classic.ext_message]":{"lump":{"content":"c"}}}'
    )
    assert codec_for(Old).decode("k", raw) == message


def deep(levels: int) -> Tree:
    """A tree of so many messages inside each other."""
    tree = Tree()
    inmost = tree
    for _ in range(levels - 1):
        inmost = inmost.only
    inmost.label = "x"
    return tree


def test_what_nests_too_deeply_is_refused_when_written() -> None:
    codec = codec_for(Tree)
    assert codec.decode("k", codec.encode(deep(100))) == deep(100)
    with pytest.raises(BadValue, match=r"'some/key'.*more than 100 messages.*codec=\"proto\""):
        encode("some/key", deep(101), "json")
    assert codec_for(Tree, "proto").decode("k", encode("k", deep(99), "proto")) == deep(99)


def test_free_json_without_a_kind_is_refused_when_written() -> None:
    unset, infinite = Trees(), Trees()
    unset.values.add()
    infinite.value.number_value = float("inf")
    for message, what in ((unset, "has no kind"), (infinite, "infinite")):
        with pytest.raises(BadValue, match=what):
            encode("some/key", message, "json")


def isolated(code: str) -> str:
    """What a fresh interpreter prints."""
    out = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True
    )
    return out.stdout.strip()


def test_nothing_is_imported_before_it_is_needed() -> None:
    assert isolated("""
        import sys, msgspec
        from datasync.codec import codec_for, encode
        class S(msgspec.Struct): a: int
        codec_for(bytes); codec_for(S); encode("k", S(1), "json"); encode("k", {}, "proto")
        print([name for name in ("google.protobuf", "pydantic", "orjson") if name in sys.modules])
    """) == "[]"  # fmt: skip


def test_protobuf_without_orjson_names_the_extra() -> None:
    said = isolated("""
        import sys
        sys.modules["orjson"] = None
        from google.protobuf.timestamp_pb2 import Timestamp
        from datasync.codec import codec_for, encode
        from datasync.errors import MissingExtra
        for call in (lambda: codec_for(Timestamp), lambda: encode("k", Timestamp(), "json")):
            try:
                call()
            except MissingExtra as error:
                print(error)
    """)
    expected = (
        "protobuf messages need the module orjson; install it with: pip install "
        "'datasync[protobuf]'"
    )
    assert said.splitlines() == [expected] * 2
    assert issubclass(MissingExtra, UsageError)
