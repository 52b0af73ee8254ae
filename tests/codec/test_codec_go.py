"""What Go's encoding/json writes is read here, and what is written here Go reads.

The files in go/written are made by go/main.go, see go/Makefile.
"""

from __future__ import annotations

import base64
import json
import subprocess
from pathlib import Path

import pytest
from google.protobuf.message import Message
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datasync.codec import codec_for
from datasync.codec.wellknown import go_name
from datasync.errors import DecodeError
from tests.helpers.codec.go_reader import go_reader
from tests.helpers.codec.messages import bits, messages
from tests.helpers.codec.protos.go2_pb2 import Old
from tests.helpers.codec.protos.go3_pb2 import Whole
from tests.helpers.codec.protos.modern_pb2 import Interface, Names, Scalars

HERE = Path(__file__).parents[1] / "helpers" / "codec" / "go"
WRITTEN = sorted((HERE / "written").glob("*.json"))


def read_written(path: Path) -> tuple[type[Message], bytes, Message]:
    """The class, the JSON that Go wrote, and the message that it wrote."""
    cls: type[Message] = Old if path.stem.startswith("old") else Whole
    return cls, path.read_bytes(), cls.FromString(path.with_suffix(".bin").read_bytes())


def test_the_files_are_there() -> None:
    assert len(WRITTEN) >= 18


@pytest.mark.parametrize("path", WRITTEN, ids=lambda path: path.stem)
def test_go_json_is_read(path: Path) -> None:
    cls, raw, message = read_written(path)
    assert bits(codec_for(cls).decode("k", raw)) == bits(message)


@pytest.mark.parametrize("path", WRITTEN, ids=lambda path: path.stem)
def test_go_json_is_read_beside_forms_that_only_protobuf_reads(path: Path) -> None:
    cls, raw, message = read_written(path)
    text = json.dumps({**json.loads(raw), "twofold": "1e0"}).encode()
    message.twofold = 1.0  # type: ignore[attr-defined]
    assert bits(codec_for(cls).decode("k", text)) == bits(message)


@pytest.mark.parametrize(
    "path",
    [p for p in WRITTEN if "choice" not in p.stem and "largest" not in p.stem],
    ids=lambda path: path.stem,
)
def test_the_same_document_is_written(path: Path) -> None:
    cls, raw, message = read_written(path)
    expected = json.loads(raw)
    expected.pop("SomeChoice", None)  # null: nothing chosen
    assert json.loads(codec_for(cls).encode(message)) == expected


def test_members_of_oneofs_are_written_under_their_own_names() -> None:
    # Go writes {"SomeChoice": {"AText": "t"}}, which Go itself cannot read
    assert codec_for(Whole).encode(Whole(a_text="t")) == b'{"a_text":"t"}'
    assert codec_for(Whole).encode(Whole(number_2=0)) == b'{"number_2":0}'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"SomeChoice":{"AText":"x"}}', Whole(a_text="x")),
        ('{"SomeChoice":{"Number_2":"007"}}', Whole(number_2=7)),
        ('{"SomeChoice":{"APart":null}}', Whole()),
        ('{"SomeChoice":{}}', Whole()),
        ('{"SomeChoice":[]}', Whole()),
        ('{"SomeChoice":5}', Whole()),
        ('{"SomeChoice":{"NoSuch":5}}', Whole()),
        ('{"SomeChoice":{"AText":"x","Number_2":5}}', Whole()),
        ('{"SomeChoice":{"AText":"x"},"a_text":null}', Whole(a_text="x")),
        ('{"SomeChoice":null,"a_text":"y"}', Whole(a_text="y")),
        ('{"parts":[{}],"SomeChoice":{"APart":{"number":1}}}', Whole(parts=[{}], a_part={"number": 1})),
    ],
)  # fmt: skip
def test_oneofs_as_go_writes_them(text: str, message: Message) -> None:
    assert codec_for(Whole).decode("k", text.encode()) == message


@pytest.mark.parametrize(
    "text",
    [
        '{"SomeChoice":{"AText":"x"},"a_text":"y"}',
        '{"SomeChoice":{"AText":"x"},"number_2":5}',
        '{"number2":5,"SomeChoice":{"AText":"x"}}',
        '{"SomeChoice":{"AText":5}}',
        '{"SomeChoice":{"AText":"x"},"SomeChoice":{"AText":"x"}}',
        '{"SomeChoice":{"APart":{"a_name":"x","a_name":"x"}}}',
    ],
)
def test_oneofs_as_go_never_writes_them(text: str) -> None:
    with pytest.raises(DecodeError):
        codec_for(Whole).decode("k", text.encode())


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("name", "Name"), ("my_field_2", "MyField_2"), ("_x", "XX"), ("_my", "XMy"),
        ("a1b", "A1B"), ("x_1", "X_1"), ("camelCase", "CamelCase"), ("UPPER_case", "UPPERCase"),
        ("a__b", "A_B"), ("a_", "A_"), ("a_B", "A_B"), ("some_choice", "SomeChoice"),
    ],
)  # fmt: skip
def test_names_as_go_makes_them(name: str, expected: str) -> None:
    assert go_name(name) == expected


@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.one_of(messages(Whole), messages(Old)), min_size=40, max_size=60), st.booleans())
def test_go_reads_what_is_written(made: list[Message], in_capitals: bool) -> None:
    program = go_reader()
    sent, lines = [], []
    for message in made:
        if isinstance(message, Whole):
            message.ClearField(message.WhichOneof("some_choice") or "name")
        raw = codec_for(type(message)).encode(message)
        # Go knows no infinities, and its proto.Marshal of that time takes -0 for 0
        if not message.IsInitialized() or any(odd in raw for odd in (b"NaN", b"Infinity", b"-0.0")):
            continue
        if in_capitals:
            raw = json.dumps({key.upper(): item for key, item in json.loads(raw).items()}).encode()
            assert bits(codec_for(type(message)).decode("k", raw)) == bits(message)
        sent.append(message)
        lines.append(b'{"type":"%s","json":%s}\n' % (type(message).__name__.encode(), raw))
    out = subprocess.run(
        [program, "read"], input=b"".join(lines), capture_output=True, check=True, timeout=60
    ).stdout
    answers = out.splitlines()
    assert len(answers) == len(sent)
    for message, answer in zip(sent, answers, strict=True):
        assert not answer.startswith(b"error"), answer
        assert bits(type(message).FromString(base64.b64decode(answer))) == bits(message)


@pytest.mark.parametrize(
    ("cls", "text", "message"),
    [
        (Interface, '{"NAME":"eth0","Mtu":9000}', Interface(name="eth0", mtu=9000)),
        (Interface, '{"Phys_Address":"a","unknown":{"MTU":1}}', Interface(phys_address="a")),
        (Interface, '{"physaddress":"a"}', Interface()),  # Go knows no JSON names
        (Names, '{"NESTED_NAMES":{"SNAKE_case_name":"a"}}', Names(nested_names={"snake_case_name": "a"})),
        (Scalars, '{"LEVEL":"LEVEL_LOW","I32":null}', Scalars(level=1)),
        (Scalars, '{"TEXT":"\\":","I32":5}', Scalars(text='":', i32=5)),
    ],
)  # fmt: skip
def test_names_that_differ_in_case_alone_are_read_as_go_does(
    cls: type[Message], text: str, message: Message
) -> None:
    assert codec_for(cls).decode("k", text.encode()) == message


@pytest.mark.parametrize("text", ['{"mtu":1,"MTU":2}', '{"MTU":1,"Mtu":2}', '{"MTU":null,"mtu":2}'])
def test_a_field_that_is_given_in_two_cases_is_refused(text: str) -> None:
    with pytest.raises(DecodeError, match="'mtu' is given twice"):
        codec_for(Interface).decode("k", text.encode())
