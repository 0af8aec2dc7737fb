"""Fifteen secrets of the forms in which they are met, and every place of a JSON schema that takes a text."""

from collections.abc import Iterator, Mapping
from typing import Any

MARK = "planted1234"
FORMS = {
    "password in an address": f"https://me:{MARK}@host.example/v1",
    "token in an address": f"http://{MARK}@host.example",
    "key in a query": f"https://host.example/v1?api_key={MARK}",
    "presigned address": f"https://b.host/k?X-Amz-Signature={MARK}",
    "AWS key": "AKIAPLANTED123456789",
    "AWS session key": "ASIAPLANTED123456789",
    "OpenAI": f"sk-{MARK}{MARK}",
    "Hugging Face": f"hf_{MARK}{MARK}",
    "GitHub": f"ghp_{MARK}{MARK}",
    "GitLab": f"glpat-{MARK}{MARK}",
    "Slack": f"xoxb-{MARK}",
    "Google": f"AIza{MARK * 3}",
    "JSON web token": f"eyJ{MARK}.{MARK}.{MARK}",
    "private key": f"-----BEGIN PRIVATE KEY-----{MARK}-----END PRIVATE KEY-----",
    "header": f"Authorization: Basic {MARK}",
}
MARKS = (MARK, "PLANTED123456789")


def places(schema: Mapping[str, Any]) -> dict[tuple[str | int, ...], Any]:
    """Every place below a schema that takes a text, free names included."""
    return dict(_places(schema, schema, ()))


def nested(path: tuple[str | int, ...], value: Any) -> Any:
    """Data that holds nothing but a value at a place."""
    for step in reversed(path):
        value = [value] if isinstance(step, int) else {step: value}
    return value


def _places(
    whole: Mapping[str, Any], part: Mapping[str, Any], path: tuple[str | int, ...]
) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    if reference := part.get("$ref"):
        name = str(reference).rpartition("/")[2]
        if name != "noSecrets":
            yield from _places(whole, {**whole["$defs"][name], **{k: v for k, v in part.items() if k != "$ref"}}, path)
        return
    for group in ("allOf", "anyOf", "oneOf"):
        for other in part.get(group, []):
            yield from _places(whole, other, path)
    for name, inner in part.get("properties", {}).items():
        yield from _places(whole, inner, (*path, name))
    if isinstance(free := part.get("additionalProperties"), dict):
        yield from _places(whole, free, (*path, "free"))
    if isinstance(items := part.get("items"), dict):
        yield from _places(whole, items, (*path, 0))
    open_object = part.get("type") == "object" and not part.get("properties") and not isinstance(free, dict)
    if open_object and free is not False:
        yield (*path, "free"), part
    if path and (part.get("type") == "string" or "string" in part.get("type", ())) and "enum" not in part:
        yield path, part
