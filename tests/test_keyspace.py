"""Where the keys of a DataSync live, and what may name one."""

from __future__ import annotations

import pytest

from datasync.errors import BadKey, BadPrefix, UsageError
from datasync.keyspace import KeySpace
from datasync.rooted import Rooted
from datasync.testing import FaultySource


def test_a_label_is_a_prefix_below_that_of_all_agents() -> None:
    assert KeySpace.of("vpp1", None).root == "/vnf-agent/vpp1/"
    assert KeySpace.of(None, "config/").root == "config/"
    assert KeySpace.of(None, "").root == KeySpace.of(None, None).root == ""
    with pytest.raises(UsageError, match="exclude each other"):
        KeySpace.of("vpp1", "config/")


@pytest.mark.parametrize("label", ["", "a/b", "\ud800"])
def test_what_is_not_a_label(label: str) -> None:
    with pytest.raises(BadPrefix, match="is not a name"):
        KeySpace.of(label, None)


def test_below_a_root_no_name_starts_with_a_slash() -> None:
    whole, below = KeySpace(), KeySpace("config/")
    whole.check_key("/a")
    whole.check_prefix("/a/")
    below.check_key("a")
    below.check_prefix("a/")
    with pytest.raises(BadKey, match="starts with '/' below a prefix"):
        below.check_key("/a")
    with pytest.raises(BadPrefix, match="starts with '/' below a prefix"):
        below.check_prefix("/a/")


def test_a_source_is_seen_from_the_root() -> None:
    source = FaultySource()
    assert KeySpace().seen(source) is source
    assert isinstance(KeySpace("config/").seen(source), Rooted)
