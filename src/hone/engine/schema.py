"""What the stages read, write and accept, derived from the stages themselves: settings as rows, and as JSON schema."""

import json
from collections.abc import Iterator
from typing import Any, cast

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined, to_jsonable_python

from hone.config import section
from hone.settings import Retrain
from hone.stages import STAGES, stage


def schema_json() -> str:
    """The JSON schema of a settings file, for editors."""
    properties: dict[str, Any] = {
        "name": {"type": "string", "description": "The name of the run."},
        "store": {"type": "string", "description": "Where results live: a folder, or s3://bucket/prefix."},
        "preset": {"type": "string", "description": "Settings that come with Hone and lie below these."},
        "retrain": {"type": ["object", "null"], **Retrain.model_json_schema()},
    }
    definitions: dict[str, Any] = {}
    for name in STAGES:
        schema = stage(name).Config.model_json_schema(ref_template="#/$defs/{model}")
        definitions.update(schema.pop("$defs", {}))
        schema.pop("required", None)
        schema["type"] = ["object", "null"]  # a heading with nothing below it keeps all defaults
        properties[name] = schema
    for key, name in shared_settings().items():
        properties[key] = properties[name]["properties"][key]
    whole = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Hone settings",
        "type": "object",
        "properties": properties,
        "$defs": definitions,
        "required": ["name"],
        "additionalProperties": False,
    }
    return json.dumps(whole, indent=2)


def shared_settings() -> dict[str, str]:
    """Settings that several stages have, each with the first stage that has it: written once, at the top level."""
    holders: dict[str, list[str]] = {}
    for name in STAGES:
        for field in stage(name).Config.model_fields:
            holders.setdefault(field, []).append(name)
    return {field: names[0] for field, names in holders.items() if len(names) > 1 or field == "teacher"}


def setting_rows(prefix: str, model: type[BaseModel]) -> Iterator[tuple[str, str, str, str]]:
    """Name, type in words, default and meaning of every setting of a model, nested ones with their path."""
    schemas = model.model_json_schema()["properties"]
    for name, field in model.model_fields.items():
        yield prefix + name, _type(schemas[name]), _default(field), " ".join((field.description or "").split())
        if inner := section(field.annotation):
            yield from setting_rows(f"{prefix}{name}.", inner)


_WORDS = {"string": "text", "boolean": "true or false", "integer": "whole number", "number": "number", "null": ""}


def _type(schema: dict[str, Any]) -> str:
    """What may be written, from the JSON schema of one setting."""
    if several := schema.get("anyOf"):
        return " or ".join(filter(None, map(_type, several)))
    if names := schema.get("enum"):
        return " or ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
    if "const" in schema:
        return json.dumps(schema["const"])
    match schema.get("type"):
        case "array":
            return f"list of: {_type(schema['items'])}" if "items" in schema else "list"
        case "object" if isinstance(inner := schema.get("additionalProperties"), dict):
            return f"by name: {_type(cast(dict[str, Any], inner))}"
        case str(kind) if kind in _WORDS:
            return ", ".join(filter(None, [_WORDS[kind], _range(schema)]))
        case _:
            return "section"


def _range(schema: dict[str, Any]) -> str:
    low, above, high, below = map(schema.get, ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum"))
    if low is not None and high is not None:
        return f"{low:g} to {high:g}"
    begin = f"{low:g} or more" if low is not None else f"above {above:g}" if above is not None else ""
    end = f"{high:g} at most" if high is not None else f"below {below:,}" if below is not None else ""
    return " and ".join(filter(None, [begin, end]))


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=False)
    if value is PydanticUndefined or value is None:
        return "required" if field.is_required() else ""
    return "as below" if isinstance(value, BaseModel) else json.dumps(to_jsonable_python(value))  # as YAML has it
