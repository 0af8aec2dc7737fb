"""Words for schemas of what a CustomResourceDefinition takes: an object's fields are all that are listed."""

from typing import Any

ANY: dict[str, Any] = {"type": "object"}
TEXT: dict[str, Any] = {"type": "string", "minLength": 1}
COUNT: dict[str, Any] = {"type": "integer", "minimum": 1}
FLAG: dict[str, Any] = {"type": "boolean"}


def closed(required: str = "", **properties: Any) -> dict[str, Any]:
    found = {"type": "object", "additionalProperties": False, "properties": properties}
    return {**found, "required": required.split()} if required else found


def listed(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}
