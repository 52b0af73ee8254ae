"""The compiled converter against protobuf's own reader: the same message, or an error in both.

DATASYNC_CODEC_EXAMPLES says how many random messages and documents each test tries for each class.
"""

from __future__ import annotations

import os
from typing import cast

import pytest
from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datasync.codec import codec_for
from datasync.errors import BadValue
from tests.helpers.codec.messages import (
    ALL,
    bits,
    decoded,
    has_go_form,
    messages,
    mutated,
    parsed,
    reference,
)

EXAMPLES = int(os.environ.get("DATASYNC_CODEC_EXAMPLES", "30"))
THOROUGH = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.mark.parametrize("cls", ALL, ids=lambda cls: cls.DESCRIPTOR.name)
@THOROUGH
@given(data=st.data())
def test_what_is_written_is_read_back(cls: type[Message], data: st.DataObject) -> None:
    message = data.draw(messages(cls))
    raw = codec_for(cls).encode(message)
    assert decoded(cls, raw) == bits(message)
    assert codec_for(cls).encode(codec_for(cls).decode("k", raw)) == raw


@pytest.mark.parametrize("cls", ALL, ids=lambda cls: cls.DESCRIPTOR.name)
@THOROUGH
@given(data=st.data())
def test_the_binary_form_is_read_back(cls: type[Message], data: st.DataObject) -> None:
    message = data.draw(messages(cls))
    codec = codec_for(cls, "proto")
    if message.IsInitialized():
        assert bits(codec.decode("k", codec.encode(message))) == bits(message)
    else:
        with pytest.raises(BadValue, match="required"):
            codec.encode(message)


@pytest.mark.parametrize("cls", ALL, ids=lambda cls: cls.DESCRIPTOR.name)
@THOROUGH
@given(data=st.data())
def test_protobuf_json_is_read(cls: type[Message], data: st.DataObject) -> None:
    message = data.draw(messages(cls))
    try:
        raw = json_format.MessageToJson(
            message,
            preserving_proto_field_name=data.draw(st.booleans()),
            use_integers_for_enums=data.draw(st.booleans()),
            indent=data.draw(st.sampled_from([None, 2])),
            ensure_ascii=data.draw(st.booleans()),
        ).encode()
    except json_format.SerializeToJsonError:
        return
    # protobuf writes its largest float so, and does not read it back
    if b"3.4028235e+38" not in raw:
        assert decoded(cls, raw) == reference(cls, raw)


@pytest.mark.parametrize("cls", ALL, ids=lambda cls: cls.DESCRIPTOR.name)
@THOROUGH
@given(data=st.data())
def test_mutated_json_means_the_same(cls: type[Message], data: st.DataObject) -> None:
    raw = data.draw(mutated(cls))
    expected, got = reference(cls, raw), decoded(cls, raw)
    if b"3.4028235e+38" in raw or has_go_form(parsed(raw), cast(Descriptor, cls.DESCRIPTOR)):
        return  # what Go writes has tests of its own
    assert got == expected
