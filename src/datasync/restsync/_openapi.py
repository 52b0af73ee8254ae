"""The OpenAPI description of what the server answers; it is built from the limits that hold."""

from __future__ import annotations

from typing import Any

import msgspec

from datasync.restsync._bodies import Page
from datasync.restsync._limits import Limits
from datasync.restsync._overview import Overview
from datasync.restsync._problems import MARK, PROBLEM, STREAMED, ProblemDetails, Written

__all__ = ["description"]

Schema = dict[str, Any]

_KEY: Schema = {"type": "string", "pattern": "[^/]$"}
_ANSWERS = (Page, Written, ProblemDetails, Overview)
_PREFIX: Schema = {"type": "string", "pattern": "^(.*/)?$"}


def description(limits: Limits, *, secured: bool, panels: bool = False) -> Schema:
    """An OpenAPI 3.1 document.

    secured: whether a token is asked for.
    panels: whether an application may show some.
    """
    document: Schema = {
        "openapi": "3.1.0",
        "info": {
            "title": "datasync",
            "version": "1",
            "description": "Keys and values of an agent or of a source that is served. A write "
            "answers with what the"
            " watches made of it.",
        },
        "paths": _paths(limits) | (_panel_paths() if panels else {}),
        "components": {"schemas": _schemas(limits)},
    }
    if secured:
        document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        for path in document["paths"].values():
            for operation in path.values():
                if operation["operationId"] not in ("health", "description", "page"):
                    operation["security"] = [{"token": []}]
                    operation["responses"]["401"] = _problem("The token is missing or wrong.")
    return document


def _paths(limits: Limits) -> Schema:
    key = {
        "name": "key",
        "in": "path",
        "required": True,
        "description": "The whole key; its slashes stand for themselves or as %2F.",
        "schema": {"type": "string", "minLength": 1},
    }
    prefix = _query("prefix", _PREFIX, "Empty, or ending in a slash.")

    if_match = _header(
        "If-Match",
        {"type": "string", "pattern": '^"?[0-9]{1,18}"?$'},
        "Only if the key is at that revision.",
    )
    absent = _header(
        "If-None-Match", {"type": "string", "enum": ["*"]}, "Only if there is no such key."
    )
    unless = _header(
        "If-None-Match", {"type": "string"}, "Only unless it is at one of these revisions."
    )

    confirm = _query(
        "confirm",
        {
            "anyOf": [
                {"type": "boolean"},
                {"type": "number", "minimum": 0.001, "maximum": limits.verdict_time},
            ]
        },
        "Wait for the verdict of the watches (true, or at most so many seconds), or not at all "
        "(false).",
    )
    ttl = _query(
        "ttl", {"type": "number", "minimum": 1e-3, "maximum": 1e9}, "Seconds until it is deleted."
    )

    page = [
        prefix,
        _query(
            "limit",
            {"type": "integer", "minimum": 1, "maximum": limits.page},
            "Keys in the answer, at most.",
        ),
        _query("cursor", {"type": "string"}, "The `next` of the page before."),
        _query("values", {"type": "boolean"}, "Whether to tell values too."),
    ]

    return {
        "/v1/keys/{key}": {
            "get": _operation(
                "get",
                "Read one key",
                [key, unless],
                {
                    "200": _ok("The value, as it is stored.", {"*/*": {}}),
                    "304": _ok("It is what the If-None-Match names.", {}),
                    "404": _problem("There is no such key."),
                },
            ),
            "put": _operation(
                "put",
                "Write one key",
                [key, confirm, ttl, if_match, absent],
                _write_answers(),
                {
                    "required": False,  # an empty value is one
                    "content": {
                        "application/octet-stream": {"schema": {"type": "string"}},
                        "application/json": {"schema": {}},
                    },
                },
            ),
            "delete": _operation(
                "delete", "Delete one key", [key, confirm, if_match], _write_answers()
            ),
        },
        "/v1/keys": {
            "get": _operation(
                "list",
                "List a prefix",
                page,
                {
                    "200": _ok("A page, in key order.", _json("Page")),
                    "410": _problem("The cursor is used, or too old."),
                },
            ),
            "put": _operation(
                "replace",
                "Replace the whole state (a RESYNC)",
                [confirm],
                _write_answers(),
                {
                    "required": True,
                    "content": _json("State"),
                },
            ),
            "delete": _operation(
                "deletePrefix",
                "Delete a prefix",
                [{**prefix, "required": True}, confirm],
                _write_answers(),
            ),
        },
        "/v1/transactions": {
            "post": _operation(
                "transaction",
                "Write several keys, all or none",
                [confirm],
                _write_answers(),
                {
                    "required": True,
                    "content": _json("Transaction"),
                },
            ),
        },
        "/v1/events": {
            "get": _operation(
                "events",
                "Follow what changes, as server-sent events",
                [
                    _query(
                        "prefix",
                        {"type": "array", "items": prefix["schema"]},
                        "What to follow; everything if absent.",
                    ),
                    _query("key", {"type": "array", "items": _KEY}, "Single keys to follow."),
                    _query(
                        "from", {"type": "string", "enum": ["snapshot", "now"]}, "Where to begin."
                    ),
                    _query(
                        "heartbeat",
                        {"type": "number", "minimum": 0.1, "maximum": 60},
                        "Seconds between beats.",
                    ),
                    _header("Last-Event-ID", {"type": "string"}, "Continue after that event."),
                ],
                {
                    "200": _ok(
                        "Events, without an end.",
                        {"text/event-stream": {"schema": {"type": "string"}}},
                    ),
                    "410": _problem("Nothing can be told after that event any more."),
                },
            ),
        },
        "/v1/status": {
            "get": _operation(
                "status", "How the agent is", [], {"200": _ok("It all.", _json("Overview"))}
            )
        },
        "/metrics": {
            "get": _operation(
                "metrics",
                "Metrics, as Prometheus reads them",
                [],
                {
                    "200": _ok(
                        "The text format, or OpenMetrics.",
                        {
                            "text/plain": {"schema": {"type": "string"}},
                            "application/openmetrics-text": {"schema": {"type": "string"}},
                        },
                    ),
                },
            )
        },
        "/health": {
            "get": _operation(
                "health",
                "Whether the state is complete",
                [],
                {
                    "200": _ok("It is.", {"application/json": {"schema": {"type": "object"}}}),
                },
            )
        },
        "/openapi.json": {
            "get": _operation(
                "description",
                "This description",
                [],
                {
                    "200": _ok(
                        "OpenAPI 3.1.", {"application/json": {"schema": {"type": "object"}}}
                    ),
                },
            )
        },
        "/": {
            "get": _operation(
                "page",
                "The status page",
                [],
                {
                    "200": _ok("HTML.", {"text/html": {"schema": {"type": "string"}}}),
                },
            )
        },
    }


def _panel_paths() -> Schema:
    """What the application around the agent shows, and answers."""
    name = {
        "name": "name",
        "in": "path",
        "required": True,
        "description": "One of the `panels` of the status.",
        "schema": {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9_.-]*$"},
    }

    question = name | {"name": "question", "description": "What the panel answers."}
    anything: Schema = {"application/json": {"schema": {}}}
    missing = {"404": _problem("There is no such panel, or it does not answer this.")}

    return {
        "/v1/panels/{name}": {
            "get": _operation(
                "panel",
                "What a part of the application shows of itself",
                [name, _query("about", {"type": "string"}, "What to show more of.")],
                {"200": _ok("Tables, timelines and drawings.", anything), **missing},
            )
        },
        "/v1/panels/{name}/{question}": {
            "post": _operation(
                "ask",
                "Ask a part of the application something; nothing is changed by it",
                [name, question],
                {"200": _ok("The answer.", anything), **missing},
                {"required": True, "content": anything},
            )
        },
    }


def _operation(
    name: str, summary: str, parameters: list[Schema], responses: Schema, body: Schema | None = None
) -> Schema:
    answers = {
        **responses,
        "400": _problem("The request is wrong; the detail says what to send instead."),
        "503": _problem("The state is not complete, or the source cannot be reached; come back."),
    }
    if any(parameter["in"] == "path" for parameter in parameters):
        answers["414"] = _problem("The key is too long.")
    if body is not None:
        answers["413"] = _problem("The body, or a part of it, is too large.")
        if name != "put":
            answers["415"] = _problem("The body is not said to be JSON.")
    if name == "events" or body is not None or "422" in responses:
        answers["429"] = _problem("Too many of these at a time.")
    operation = {
        "operationId": name,
        "summary": summary,
        "parameters": parameters,
        "responses": answers,
    }
    return operation if body is None else operation | {"requestBody": body}


def _write_answers() -> Schema:
    return {
        "200": _ok("Written, and accepted by the watches (or nobody was asked).", _json("Written")),
        "202": _ok(
            "Written; nobody watches it, or a watch applies it later: see `verdict`.",
            _json("Written"),
        ),
        "409": _problem("A check did not hold, or a key is written twice; nothing was written."),
        "412": _problem("If-Match or If-None-Match did not hold; nothing was written."),
        "422": _ok("Written, but a watch refused some keys: see `reasons`.", _json("Written")),
        "500": _ok("Written, but a watch failed to apply it, and tries again.", _json("Written")),
        "502": _problem("Nobody knows whether it was written: the source broke off."),
        "504": _ok("Written, but a watch did not report in time.", _json("Written")),
    }


def _query(name: str, schema: Schema, text: str) -> Schema:
    return {"name": name, "in": "query", "schema": schema, "description": text}


def _header(name: str, schema: Schema, text: str) -> Schema:
    return {"name": name, "in": "header", "schema": schema, "description": text}


_MARKED: Schema = {
    MARK: {
        "required": True,
        "description": "How many bytes the body has, before any compression on the way: only a "
        "whole answer"
        f" that has this header is one of datasync. {STREAMED!r} where the body has no end.",
        "schema": {"type": "string", "pattern": f"^([0-9]+|{STREAMED})$"},
    }
}


def _ok(text: str, content: Schema) -> Schema:
    answer: Schema = {"description": text, "headers": _MARKED}
    return answer | {"content": content} if content else answer


def _json(name: str) -> Schema:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}}


def _problem(text: str) -> Schema:
    schema = {"schema": {"$ref": "#/components/schemas/ProblemDetails"}}
    return _ok(text, {PROBLEM: schema})


def _schemas(limits: Limits) -> Schema:
    """Of the bodies that are read, within their limits, and of the answers,
    as their structs have them."""
    key = {"type": "string", "minLength": 1}
    valued: Schema = {
        "key": key,
        "value": {"description": "A text stands for its UTF-8 bytes, any other JSON for its text."},
        "value_base64": {
            "type": "string",
            "contentEncoding": "base64",
            "pattern": "^([A-Za-z0-9+/]{4})*$",
        },
    }

    one_value = {"oneOf": [{"required": ["value"]}, {"required": ["value_base64"]}]}
    revision = {"type": "integer", "minimum": 0, "maximum": 2**63 - 1}

    put = {
        "op": {"const": "put"},
        **valued,
        "ttl": {"type": ["number", "null"], "minimum": 1e-3, "maximum": 1e9 - 1},
    }
    delete = {"op": {"const": "delete"}, "key": key, "prefix": {"const": False}}
    delete_prefix = {"op": {"const": "delete"}, "key": _PREFIX, "prefix": {"const": True}}
    check = {"op": {"const": "check"}, "key": key, "revision": revision}

    _, answers = msgspec.json.schema_components(
        _ANSWERS, ref_template="#/components/schemas/{name}"
    )

    return {
        **answers,
        "State": _object(
            {
                "items": {
                    "type": "array",
                    "maxItems": limits.keys,
                    "items": _object(valued, ["key"]) | one_value,
                }
            },
            ["items"],
        ),
        "Transaction": _object(
            {
                "operations": {
                    "type": "array",
                    "maxItems": limits.operations,
                    "items": {
                        "oneOf": [
                            _object(put, ["op", "key"]) | one_value,
                            _object(delete, ["op", "key"]),
                            _object(delete_prefix, ["op", "key", "prefix"]),
                            _object(check, ["op", "key", "revision"]),
                        ]
                    },
                }
            },
            ["operations"],
        ),
    }


def _object(properties: Schema, required: list[str]) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }
