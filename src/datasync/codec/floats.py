"""Whether values of a type may hold a float. JSON has no infinities and no NaN, and its writers put
null in their place; only where a float is possible is it worth while to look for those.
"""

from __future__ import annotations

from typing import Any

import msgspec

__all__ = ["model_may_hold_floats", "may_hold_floats"]

_OTHERS = (
    msgspec.inspect.FloatType,
    msgspec.inspect.AnyType,
    msgspec.inspect.CustomType,
    msgspec.inspect.RawType,
)


def may_hold_floats(info: Any, seen: set[int] | None = None) -> bool:
    """Whether the type that msgspec describes, or one inside it, is a float or may be anything."""
    seen = set() if seen is None else seen
    if isinstance(info, _OTHERS):
        return True
    if isinstance(info, tuple):
        return any(may_hold_floats(part, seen) for part in info)
    if not isinstance(info, msgspec.inspect.Type | msgspec.inspect.Field) or id(info) in seen:
        return False
    seen.add(id(info))  # types may recur
    return any(may_hold_floats(getattr(info, name), seen) for name in info.__struct_fields__)


_WITHOUT = frozenset({
    "bool", "bytes", "dataclass", "dataclass-args", "dataclass-field", "date", "datetime",
    "default", "definition-ref", "definitions", "dict", "enum", "frozenset", "int", "list",
    "literal", "model", "model-field", "model-fields", "none", "nullable", "set", "str", "time",
    "timedelta", "tuple", "typed-dict", "typed-dict-field", "union", "url", "uuid",
})  # fmt: skip
"""The kinds of pydantic's schemas that are not floats, and hold none but those of their parts."""
_ALLOWED = ("extra_behavior", "extra_fields_behavior")


def model_may_hold_floats(schema: Any) -> bool:
    """The same for a core schema of pydantic; a type with a serializer of its own may hold them."""
    if isinstance(schema, list | tuple):
        return any(map(model_may_hold_floats, schema))
    if not isinstance(schema, dict):
        return False
    kind = schema.get("type")
    if isinstance(kind, str) and kind not in _WITHOUT:
        return True
    if "serialization" in schema or any(schema.get(name) == "allow" for name in _ALLOWED):
        return True
    parts = (part for name, part in schema.items() if name not in ("metadata", "default"))
    return any(map(model_may_hold_floats, parts))
