"""Unusual and malformed JSON, case by case: the message that protobuf's own reader makes of it,
or an error in both.
"""

from __future__ import annotations

from typing import Any, cast

import pytest
from google.protobuf import any_pb2, timestamp_pb2, wrappers_pb2
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message
from google.protobuf.wrappers_pb2 import StringValue

from datasync.codec import codec_for
from datasync.codec.wellknown import is_map, is_repeated
from datasync.errors import DecodeError
from tests.helpers.codec.messages import ALL, bits, decoded, has_go_form, parsed, reference
from tests.helpers.codec.odd import ODD
from tests.helpers.codec.protos.classic_pb2 import Old
from tests.helpers.codec.protos.known_pb2 import Plain, Trees
from tests.helpers.codec.protos.modern_pb2 import (
    Choices,
    Interface,
    Maps,
    Names,
    Presence,
    Repeated,
    Scalars,
    Tree,
)

FIELDS = [(cls, field.name) for cls in ALL for field in cast(Descriptor, cls.DESCRIPTOR).fields]


@pytest.mark.parametrize(
    ("cls", "name"), FIELDS, ids=lambda value: value if isinstance(value, str) else value.__name__
)
def test_every_odd_value_in_every_field(cls: type[Message], name: str) -> None:
    field = cast(Descriptor, cls.DESCRIPTOR).fields_by_name[name]
    accepted = 0
    for odd in ODD:
        forms = [f'{{"{name}":{odd}}}', f'{{"{field.json_name}":{odd}}}']
        if is_map(field):
            forms += [
                f'{{"{name}":{{"{key}":{odd}}}}}'
                for key in ("1", "-1", "true", "x", "01", "", "9223372036854775808")
            ]
        elif is_repeated(field):
            forms += [f'{{"{name}":[{odd}]}}', f'{{"{name}":[{odd},{odd}]}}']
        for form in dict.fromkeys(forms):  # the two names of most fields are the same
            raw = form.encode("utf-8", "surrogatepass")
            if not has_go_form(parsed(raw), cast(Descriptor, cls.DESCRIPTOR)):
                expected = reference(cls, raw)
                assert decoded(cls, raw) == expected, form
                accepted += expected is not None
    assert accepted  # null at least


DOCUMENTS: list[tuple[type[Message], str]] = [
    # no object, or no JSON
    *((Scalars, text) for text in ("", " ", "\n", "null", "1", '"a"', "[]", "[{}]", "true", "{", "}", "{}{}", "{,}")),
    *((Scalars, text) for text in ('{"i32":1,}', "{'i32':1}", "{i32:1}", '{"i32" 1}', '{"i32":}', '{"i32":1 "u32":2}')),
    *((Scalars, text) for text in ("\ufeff{}", "\x00", "{}\x00", "// no\n{}", "{/**/}", " {} ", "\t{\r\n}\n", "\v{}")),
    # keys given twice
    (Scalars, '{"i32":1,"i32":1}'),
    (Scalars, '{"i32":1,"i32":null}'),
    (Scalars, '{"i32" :1,"i32": 2}'),
    (Scalars, '{"i32"\n:1,"text":"\\":","i32":2}'),
    (Scalars, '{"i32":1,"\\u00693\\u0032":2}'),
    (Scalars, '{"text":"\\u0022:","i32":1,"i32":2}'),
    (Scalars, '{"text":"\\":"}'),
    (Scalars, '{"text":"\\\\","i32":1}'),
    (Scalars, '{"text":"\\" :"}'),
    (Scalars, '{"unknown":1,"unknown":2}'),
    (Scalars, '{"unknown":{"a":1,"a":2}}'),
    (Scalars, '{"unknown":[{"a":1},{"a":2}]}'),
    (Scalars, '{"unknown":[{"a":1,"a":2}]}'),
    (Scalars, '{"unknown":{"a":{"b":{"c":"\\":"}}}}'),
    (Maps, '{"by_text":{"a":"b","a":"c"}}'),
    (Maps, '{"by_text":{"a":"b","a ":"c"}}'),
    (Maps, '{"by_f64":{"1":{"i32":1,"i32":2}}}'),
    (Maps, '{"by_i32":{"1":"a","01":"b"}}'),
    (Maps, '{"by_i32":{"1":"a","1.0":"b"}}'),
    (Maps, '{"by_f64":{"1.0":{"i32":1}}}'),
    (Maps, '{"by_f64":{"1.5":{"i32":1}}}'),
    (Maps, '{"by_f64":{"inf":{"i32":1}}}'),
    (Maps, '{"by_f64":{"1e400":{"i32":1}}}'),
    (Maps, '{"by_f64":{"1":{"i32":1},"1e0":{"u32":2}}}'),
    (Plain, '{"texts":{"1.0":"a"}}'),
    (Repeated, '{"many_scalars":[{"i32":1},{"i32":1}]}'),
    (Repeated, '{"many_scalars":[{"i32":1,"i32":1}]}'),
    (Trees, '{"structure":{"a":1,"a":2}}'),
    (Trees, '{"structure":{"a":{"b":1},"c":{"b":1}}}'),
    (Trees, '{"values":[{"a":1},{"a":1,"a":1}]}'),
    (Plain, '{"things":[{"@type":"a.b/google.protobuf.Int32Value","@type":"a","value":1}]}'),
    # both names
    (Names, '{"snake_case_name":"a","snakeCaseName":"b"}'),
    (Names, '{"snakeCaseName":"b","snake_case_name":"a"}'),
    (Names, '{"snakeCaseName":"b","snake_case_name":null}'),
    (Names, '{"snakeCaseName":null,"snake_case_name":"a"}'),
    (Names, '{"snakeCaseName":null,"snake_case_name":null}'),
    (Names, '{"chosen":"a"}'),
    (Names, '{"given":"a"}'),
    (Names, '{"chosen":"a","given":"b"}'),
    (Names, '{"Given":"a"}'),
    (Names, '{"camelCase":5}'),
    (Names, '{"CamelCase":5}'),
    (Names, '{"nestedNames":{"snakeCaseName":"x"},"nested_names":{"chosen":"y"}}'),
    (Names, '{"someMap":{"a":1},"some_map":{"b":2}}'),
    (Names, '{"with2Digits":["a"],"with_2_digits":["b"]}'),
    (Names, '{"Leading":5}'),
    (Names, '{"_leading":5,"self":"s","class":"c"}'),
    (Presence, '{"opt_i32":1,"optI32":2}'),
    (Presence, '{"optI32":null,"opt_i32":2}'),
    # presence
    (Presence, '{"opt_i32":0,"opt_u64":0,"opt_double":0,"opt_flag":false,"opt_text":"","opt_raw":"","opt_level":0}'),
    (Presence, '{"opt_scalars":{},"scalars":{}}'),
    (Presence, '{"opt_scalars":null,"scalars":null,"opt_i32":null}'),
    (Presence, '{"scalars":{"unknown":[]}}'),
    (Scalars, '{"i32":null,"text":null,"raw":null,"level":null}'),
    # unknown fields
    (Scalars, '{"unknown":"\\ud800"}'),
    (Scalars, '{"unknown":NaN}'),
    (Scalars, '{"unknown":' + "1" * 5000 + "}"),
    (Scalars, '{"unknown":1e999}'),
    (Scalars, '{"[unknown]":1}'),
    (Scalars, '{"[un known]":1}'),
    (Scalars, '{"[":1,"]":2}'),
    (Scalars, '{"":1}'),
    (Scalars, '{"unknown":' + "[" * 90 + "]" * 90 + "}"),
    (Scalars, '{"unknown":' + '{"a":' * 90 + "1" + "}" * 91),
    # oneofs
    (Choices, '{"i32":1,"some_text":"a"}'),
    (Choices, '{"i32":1,"some_text":null}'),
    (Choices, '{"i32":null,"some_text":null}'),
    (Choices, '{"i32":0,"someText":"a"}'),
    (Choices, '{"some_text":"","someText":"a"}'),
    (Choices, '{"some_text":"a","left":"b","single":1.5}'),
    (Choices, '{"right":{"right":{"i32":5}},"left":null}'),
    (Choices, '{"right":{"left":"a","right":{}}}'),
    (Choices, '{"scalars":{},"level":"LEVEL_LOW"}'),
    (Choices, '{"level":"NO_SUCH"}'),
    (Choices, '{"level":"NO_SUCH","i32":5}'),
    (Choices, '{"single":1e39}'),
    (Trees, '{"some_value":null}'),
    (Trees, '{"some_value":null,"some_text":"a"}'),
    (Trees, '{"some_text":"a","some_value":null}'),
    (Trees, '{"some_null":null}'),
    (Trees, '{"some_null":"NULL_VALUE"}'),
    (Trees, '{"some_null":null,"some_text":"a"}'),
    (Trees, '{"null":null,"value":null,"nulls":["NULL_VALUE",0]}'),
    (Trees, '{"nulls":[null]}'),
    (Trees, '{"values":[null,1,"a",[],{}]}'),
    (Trees, '{"structures":[null]}'),
    (Trees, '{"list":[[1e400]]}'),
    (Trees, '{"list":[18446744073709551616]}'),
    (Trees, '{"value_of":{"a":null,"b":{"c":null}}}'),
    # numbers
    (Repeated, '{"i32":[1,2.0,"3","4e0"]}'),
    (Repeated, '{"i32":[1,true]}'),
    (Repeated, '{"u64":[18446744073709551615,"18446744073709551615"]}'),
    (Repeated, '{"i64":[-9223372036854775809]}'),
    (Repeated, '{"u64":[18446744073709551616]}'),
    (Repeated, '{"i64":[9223372036854775807.0]}'),
    (Repeated, '{"twofold":[1,1.5,"NaN","-Infinity",1e308]}'),
    (Repeated, '{"flag":[true,0]}'),
    (Repeated, '{"text":["a",1]}'),
    (Repeated, '{"level":[0,"LEVEL_LOW","NO_SUCH",5]}'),
    (Repeated, '{"level":[0,null]}'),
    (Repeated, '{"level":[4294967296]}'),
    (Repeated, '{"raw":["AA==","_w","*"]}'),
    (Repeated, '{"many_scalars":[{},null]}'),
    (Repeated, '{"i32":{"0":1}}'),
    (Scalars, '{"i32":-0,"twofold":-0,"single":-0.0}'),
    (Scalars, '{"single":3.4028234663852886e38}'),
    (Scalars, '{"single":340282356779733661637539395458142568448}'),
    (Scalars, '{"single":1' + "0" * 39 + "}"),
    (Scalars, '{"twofold":1' + "0" * 309 + "}"),
    (Scalars, '{"twofold":1' + "0" * 308 + "}"),
    (Scalars, '{"i32":1' + "0" * 5000 + "}"),
    (Scalars, '{"level":9007199254740993}'),
    # maps
    (Maps, '{"by_bool":{"true":"a","false":"b"}}'),
    (Maps, '{"by_bool":{"True":"a"}}'),
    (Maps, '{"by_bool":{"1":"a"}}'),
    (Maps, '{"by_u32":{"-1":1}}'),
    (Maps, '{"by_i32":{" 1":"a"}}'),
    (Maps, '{"by_i32":{"1_0":"a"}}'),
    (Maps, '{"by_i32":{"+1":"a"}}'),
    (Maps, '{"by_i32":{"2147483648":"a"}}'),
    (Maps, '{"by_f32":{"1":"LEVEL_LOW","2":"NO_SUCH","3":77}}'),
    (Maps, '{"by_f64":{"1":null}}'),
    (Maps, '{"by_text":{"a":null}}'),
    (Maps, '{"maps_by_text":{"a":{"maps_by_text":{"b":{"by_bool":{"true":"x"}}}}}}'),
    (Maps, '{"by_text":[["a","b"]]}'),
    # proto2
    (Old, "{}"),
    (Old, '{"i32":0,"flag":false,"text":"","colour":"RED","twofold":0}'),
    (Old, '{"colour":3}'),
    (Old, '{"colour":"ALSO_GREEN","colours":[1,2,-5,"BLUE"]}'),
    (Old, '{"colours":[1,3]}'),
    (Old, '{"colours":["NO_SUCH",1]}'),
    (Old, '{"shape_of":{"a":3,"b":"ROUND"}}'),
    (Old, '{"shape_of":{"a":1}}'),
    (Old, '{"lump":{"content":"c","weight":"5"},"piece":[{"content":"p"},{}],"heap":{"size":1}}'),
    (Old, '{"Lump":{"content":"c"}}'),
    (Old, '{"heap":{},"number":1}'),
    (Old, '{"[datasync.tests.classic.ext_number]":5}'),
    (Old, '{"[datasync.tests.classic.ext_number]":"x"}'),
    (Old, '{"[datasync.tests.classic.ext_message]":{"name":"n","lump":{}}}'),
    (Old, '{"[datasync.tests.classic.ext_words]":["a","b"]}'),
    (Old, '{"[datasync.tests.classic.ext_colour]":"GREEN"}'),
    (Old, '{"[datasync.tests.classic.no_such]":1}'),
    # well-known types
    (Plain, '{"at":"1970-01-01T00:00:00Z","took":"0s","mask":"","anything":{},"nothing":{}}'),
    (Plain, '{"at":"2024-02-29T12:34:56.789+05:30","took":"-1.000000001s","mask":"a.bC,d"}'),
    (Plain, '{"at":"2023-02-29T00:00:00Z"}'),
    (Plain, '{"took":"315576000001s"}'),
    (Plain, '{"mask":"a_b"}'),
    (Plain, '{"at":5}'),
    (Plain, '{"nothing":{"a":1}}'),
    (Plain, '{"nothing":[]}'),
    (Plain, '{"flag":true,"i32":5,"i64":"5","u32":5.0,"u64":"18446744073709551615","text":"","raw":"AA=="}'),
    (Plain, '{"single":"NaN","twofold":"-Infinity"}'),
    (Plain, '{"flag":null,"i32":null}'),
    (Plain, '{"i64":-9223372036854775809}'),
    (Plain, '{"i64":true}'),
    (Plain, '{"many_numbers":[1,"2",null]}'),
    (Plain, '{"many_times":["1970-01-01T00:00:00Z",null]}'),
    (Plain, '{"durations":{"a":"1s","b":"x"}}'),
    (Plain, '{"texts":{"1":"a","2":""}}'),
    (Plain, '{"then":"1970-01-01T00:00:00Z","perhaps":null}'),
    (Plain, '{"then":"1970-01-01T00:00:00Z","perhaps":false}'),
    (Plain, '{"anything":{"@type":"a.b/google.protobuf.Int32Value","value":5}}'),
    (Plain, '{"anything":{"@type":"a.b/google.protobuf.Int64Value","value":-9223372036854775809}}'),
    (Plain, '{"anything":{"@type":"a.b/google.protobuf.Value","value":null}}'),
    (Plain, '{"anything":{"@type":"a.b/datasync.tests.modern.Scalars","i32":1,"unknown":{}}}'),
    (Plain, '{"anything":{"@type":"a.b/no.such.Type"}}'),
    (Plain, '{"anything":{"@type":5}}'),
    (Plain, '{"anything":[]}'),
    (Plain, '{"things":[{"@type":"/google.protobuf.Any","value":{"@type":"/google.protobuf.Duration","value":"1s"}}]}'),
    (timestamp_pb2.Timestamp, '"1970-01-01T00:00:00Z"'),
    (timestamp_pb2.Timestamp, "5"),
    (wrappers_pb2.Int64Value, "5"),
    (wrappers_pb2.Int64Value, '"5"'),
    (wrappers_pb2.Int64Value, "null"),
    (any_pb2.Any, '{"@type":"a.b/google.protobuf.Duration","value":"1s"}'),
    (any_pb2.Any, "{}"),
    # blanks
    (Interface, '{\n  "name" : "a" ,\n\t"labels":{ "a:b" : "c" } , "phys_address":"12:34:56:78:9a:bc"\r\n}'),
]  # fmt: skip


@pytest.mark.parametrize(
    ("cls", "text"),
    DOCUMENTS,
    ids=lambda value: value[:50] if isinstance(value, str) else value.__name__,
)
def test_the_document_means_what_protobuf_says(cls: type[Message], text: str) -> None:
    raw = text.encode()
    assert decoded(cls, raw) == reference(cls, raw)


@pytest.mark.parametrize(
    "raw",
    [b'{"text":"\xff"}', b'{"text":"\xed\xa0\x80"}', b'{"text":"\xc0\x80"}', b"\xff\xfe{\x00}\x00"],
)
def test_what_is_not_utf8_is_refused(raw: bytes) -> None:
    assert decoded(Scalars, raw) is None
    assert reference(Scalars, raw) is None


def nested(depth: int, open_: str = '{"only":', close: str = "}", inmost: str = "{}") -> bytes:
    return (open_ * depth + inmost + close * depth).encode()


@pytest.mark.parametrize("depth", [10, 97, 98, 99, 100, 101, 200, 400, 1100, 100_000])
@pytest.mark.parametrize(
    ("cls", "open_", "close", "inmost"),
    [
        (Tree, '{"only":', "}", "{}"),
        (Tree, '{"only":', "}", '{"unknown":{}}'),
        (Tree, '{"left":', "}", "{}"),
        (Tree, '{"children":[', "]}", "{}"),
        (Tree, '{"named":{"a":', "}}", "{}"),
        (Tree, '{"unknown":', "}", "{}"),
        (Plain, '{"inner":', "}", '{"anything":{"@type":"a/google.protobuf.Value","value":[[1]]}}'),
        (Plain, '{"inner":', "}", '{"took":"1s"}'),
        (Trees, '{"structure":', "}", "{}"),
    ],
)
def test_depth(cls: type[Message], open_: str, close: str, inmost: str, depth: int) -> None:
    raw = nested(depth, open_, close, inmost)
    assert decoded(cls, raw) == reference(cls, raw)


@pytest.mark.parametrize("depth", [10, 47, 48, 49, 50, 51, 64, 65, 97, 98, 99, 100, 101, 300])
def test_depth_of_trees(depth: int) -> None:
    for open_, close in (("[", "]"), ('{"a":', "}"), ('[{"a":', "}]")):
        raw = b'{"value":' + nested(depth, open_, close, "1") + b"}"
        assert decoded(Trees, raw) == reference(Trees, raw)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"at":{"seconds":5,"nanos":7}}', Plain(at={"seconds": 5, "nanos": 7})),
        ('{"at":{}}', Plain(at={})),
        ('{"at":{"seconds":"5","unknown":1}}', Plain(at={"seconds": 5})),
        ('{"took":{"seconds":-1,"nanos":-1}}', Plain(took={"seconds": -1, "nanos": -1})),
        ('{"mask":{"paths":["a_b","c"]}}', Plain(mask={"paths": ["a_b", "c"]})),
        ('{"anything":{"type_url":"x/y","value":"AQ=="}}', Plain(anything={"type_url": "x/y", "value": b"\1"})),
        ('{"anything":{"typeUrl":"x/y"}}', Plain(anything={"type_url": "x/y"})),
        ('{"flag":{"value":true},"raw":{"value":"AQ=="}}', Plain(flag={"value": True}, raw={"value": b"\1"})),
        ('{"i64":{}}', Plain(i64={})),
        ('{"many_times":[{"seconds":1},"1970-01-01T00:00:02Z"]}', Plain(many_times=[{"seconds": 1}, {"seconds": 2}])),
        ('{"many_numbers":[{"value":1},"2",3]}', Plain(many_numbers=[{"value": 1}, {"value": 2}, {"value": 3}])),
        ('{"durations":{"a":{"seconds":1}}}', Plain(durations={"a": Plain(took={"seconds": 1}).took})),
        ('{"texts":{"1":{"value":"x"},"2":"y"}}', Plain(texts={1: StringValue(value="x"), 2: StringValue(value="y")})),
        ('{"then":{"seconds":1}}', Plain(then={"seconds": 1})),
        ('{"inner":{"inner":{"perhaps":{"value":false}}}}', Plain(inner={"inner": {"perhaps": {}}})),
    ],
)  # fmt: skip
def test_well_known_types_as_plain_messages(text: str, message: Message) -> None:
    codec = codec_for(Plain)
    assert bits(codec.decode("k", text.encode())) == bits(message)
    # and where something beside them is left to protobuf's reader
    beside = text[:-1] + ',"i32":" 5"}' if '"i32"' not in text else text
    with pytest.raises(DecodeError, match="'i32'"):
        codec.decode("k", beside.encode())
    beside = text[:-1] + ',"text":"\\":"}'
    message.text.value = '":'  # type: ignore[attr-defined]
    assert bits(codec.decode("k", beside.encode())) == bits(message)


@pytest.mark.parametrize(
    "text",
    [
        '{"at":{"seconds":1.5}}',
        '{"at":{"seconds":9223372036854775808}}',
        '{"at":{"seconds":1,"seconds":2}}',
        '{"at":[1]}',
        '{"mask":{"paths":"a"}}',
        '{"anything":{"value":5}}',
        '{"i64":{"value":true}}',
        '{"i32":{"value":2147483648}}',
        '{"then":{"seconds":1},"perhaps":{}}',
        '{"many_times":[{"seconds":"x"}]}',
    ],
)
def test_plain_messages_that_are_none(text: str) -> None:
    with pytest.raises(DecodeError, match="'k'"):
        codec_for(Plain).decode("k", text.encode())


def test_the_largest_float_as_go_writes_it() -> None:
    largest = 3.4028234663852886e38
    assert codec_for(Scalars).decode("k", b'{"single":-3.4028235e+38}').single == -largest
    assert (
        codec_for(Scalars).decode("k", b'{"single":3.4028235e+38,"twofold":"1"}').single == largest
    )
    assert codec_for(Repeated).decode(
        "k", b'{"single":[1,3.4028235e+38],"twofold":["1"]}'
    ).single == [1, largest]
    raw = codec_for(Scalars).encode(Scalars(single=largest))
    assert reference(Scalars, raw) == bits(Scalars(single=largest))
    assert (
        codec_for(Maps).decode("k", b'{"by_u64":{"1":3.4028235e+38},"by_u32":{"2":"1"}}').by_u64[1]
        == largest
    )


REASONS: list[tuple[type[Message], str, str]] = [
    (Scalars, "", "it is empty"),
    (Scalars, "[1]", "it is not a JSON object, as datasync.tests.modern.Scalars is"),
    (Scalars, "[]", "it is not a JSON object, as datasync.tests.modern.Scalars is"),
    (Scalars, '""', "it is not a JSON object, as datasync.tests.modern.Scalars is"),
    (Tree, '{"only":{"only":[]}}', "field 'only.only' takes an object"),
    (Tree, '{"children":[{},[]]}', "field 'children' takes an object"),
    (Tree, '{"named":{"SECRET":[]}}', "field 'named' takes an object"),
    (Plain, '{"mask":[]}', "field 'mask' takes google.protobuf.FieldMask"),
    (Scalars, '{"level":"SECRET"}', "field 'level' takes datasync.tests.modern.Level"),
    (
        Repeated,
        '{"level":["LEVEL_LOW","SECRET"]}',
        "field 'level' takes datasync.tests.modern.Level",
    ),
    (Maps, '{"by_f32":{"1":"SECRET"}}', "field 'by_f32' takes datasync.tests.modern.Level"),
    (
        Repeated,
        '{"many_scalars":[{"LEVEL":"SECRET"}]}',
        "field 'many_scalars.level' takes datasync.tests.modern.Level",
    ),
    (
        Plain,
        '{"anything":{"@type":"a/datasync.tests.modern.Scalars","level":"SECRET"}}',
        "field 'anything.level' takes datasync.tests.modern.Level",
    ),
    (Scalars, '{"i32":SECRET}', "it is not JSON (line 1, column 8)"),
    (Scalars, '{"text":"SECRET","text":""}', "an object gives a key twice"),
    (Scalars, '{"i32":"SECRET"}', "field 'i32' takes int32"),
    (Scalars, '{"flag":"SECRET"}', "field 'flag' takes bool"),
    (Scalars, '{"level":["SECRET"]}', "field 'level' takes datasync.tests.modern.Level"),
    (Repeated, '{"text":"SECRET"}', "field 'text' takes a list"),
    (Repeated, '{"many_scalars":[{},{"u64":"SECRET"}]}', "field 'many_scalars.u64' takes uint64"),
    (Maps, '{"by_text":"SECRET"}', "field 'by_text' takes an object"),
    (Maps, '{"by_f64":{"1":{"i32":"SECRET"}}}', "field 'by_f64.i32' takes int32"),
    (
        Maps,
        '{"maps_by_text":{"SECRET":{"by_i32":{"1":5}}}}',
        "field 'maps_by_text.by_i32' takes string",
    ),
    (Maps, '{"maps_by_text":{"SECRET":5}}', "field 'maps_by_text' takes an object"),
    (
        Names,
        '{"nestedNames":{"nestedNames":{"chosen":5}}}',
        "field 'nested_names.nested_names.given' takes string",
    ),
    (Choices, '{"i32":1,"some_text":"SECRET"}', "its fields exclude each other"),
    (
        Choices,
        '{"right":{"i32":1,"some_text":"SECRET"}}',
        "the fields of 'right' exclude each other",
    ),
    (Plain, '{"at":"SECRET"}', "field 'at' takes google.protobuf.Timestamp"),
    (
        Plain,
        '{"inner":{"at":{"seconds":"SECRET"}}}',
        "field 'inner.at' takes google.protobuf.Timestamp",
    ),
    (Old, '{"[datasync.tests.classic.ext_number]":"SECRET"}', "an extension has a wrong value"),
    (Tree, '{"only":' * 101 + '"SECRET"' + "}" * 101, "it nests more than 100 messages"),
]


@pytest.mark.parametrize(
    ("cls", "text", "reason"),
    REASONS,
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_the_reason_names_the_field_and_not_the_value(
    cls: type[Message], text: str, reason: str
) -> None:
    with pytest.raises(DecodeError) as caught:
        codec_for(cls).decode("some/key", text.encode())
    assert caught.value.key == "some/key"
    assert caught.value.reason == reason
    assert caught.value.__cause__ is None
    assert "SECRET" not in str(caught.value)


def test_messages_decoded_from_one_text_share_nothing() -> None:
    codec, raw = codec_for(Tree), b'{"label":"a","children":[{"label":"b"}],"only":{}}'
    one, other = codec.decode("k", raw), codec.decode("k", raw)
    one.children[0].label = "changed"
    one.only.label = "set"
    assert bits(other) == bits(Tree(label="a", children=[{"label": "b"}], only={}))


def test_classes_of_another_pool() -> None:
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    file = descriptor_pb2.FileDescriptorProto(name="made.proto", package="made", syntax="proto3")
    made = file.message_type.add(name="Made")
    made.field.add(name="a_name", number=1, type=9, label=1, json_name="aName")
    made.field.add(
        name="inner", number=2, type=11, label=3, type_name=".made.Made", json_name="inner"
    )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    cls: Any = message_factory.GetMessageClass(pool.FindMessageTypeByName("made.Made"))
    message = cls(a_name="x", inner=[{"a_name": "y"}])
    codec: Any = codec_for(cls)
    assert codec.encode(message) == b'{"a_name":"x","inner":[{"a_name":"y"}]}'
    assert codec.decode("k", codec.encode(message)) == message
