"""Damage to a store and tampering with it that a run notices."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from bad.home import Case, Home, Spoil
from hone.results.manifest import digest_of
from hone.storage.sealed import seal, unseal


def stored(pattern: str, harm: Callable[[Path], object]) -> Spoil:
    """Harm to the first object of the store that fits."""
    return lambda home: harm(sorted(home.store.root.glob(pattern))[0])


def manifest(change: Callable[[dict[str, Any]], object], stage: str = "mine") -> Spoil:
    """A manifest that was tampered with by somebody who made its seal fit again."""

    def harm(path: Path) -> None:
        data = unseal(path.read_bytes())
        change(data)
        path.write_bytes(seal(data))

    return stored(f"{stage}/*/manifest.json", harm)


def manifest_text(text: str) -> Spoil:
    return stored("mine/*/manifest.json", lambda path: path.write_text(text, "utf-8"))


def part(**fields: object) -> Spoil:
    """A manifest whose first part of candidates says something else, and whose sums fit."""

    def change(data: dict[str, Any]) -> None:
        found = data["outputs"]["candidates"]
        found["parts"][0].update(fields)
        found["digest"] = digest_of([one["sha256"] for one in found["parts"]])
        found["rows"] = sum(one["rows"] for one in found["parts"])

    return manifest(change)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def record(text: str) -> Spoil:
    """Another record of the run, which is asked for its verdict."""

    def spoil(home: Home) -> None:
        home.write("store/runs/r.json", text)
        home.call("gate", "r", "--store", home.store.uri)

    return spoil


def verified(home: Home) -> None:
    stored("distill/*/model-*/model.safetensors", flip)(home)
    home.call("store", "verify", "--store", home.store.uri)


def read_again(home: Home) -> None:
    """Damage to what a stage reads that has to run again."""
    stored("mine/*/candidates/*", flip)(home)
    home.settings(teacher={"kind": "fusion", "force": True, "lexical_weight": 0.5})


CASES: dict[str, Case] = {
    "a manifest that is cut": (
        manifest_text('{"stage": "mi'),
        r"mine/.*/manifest\.json in .* is damaged .*hone repair",
    ),
    "a manifest of no bytes": (manifest_text(""), r"mine/.*/manifest\.json in .* is damaged"),
    "a manifest that nests too deep": (manifest_text("[" * 9_999), r"mine/.*/manifest\.json in .* is damaged"),
    "a manifest of another stage": (manifest(lambda m: m.update(stage="score")), r"damaged \(it belongs to 'score/"),
    "a manifest of other settings": (manifest(lambda m: m.update(fingerprint="0" * 16)), r"it belongs to 'mine/0000"),
    "a manifest with something more": (manifest(lambda m: m.update(run="sh")), r"is damaged \(1 validation error"),
    "a manifest without outputs": (manifest(lambda m: m.update(outputs={})), r"damaged \(it must hold candidates"),
    "a manifest of an unknown table": (
        manifest(lambda m: m["outputs"].update(x=m["outputs"]["candidates"])),
        r"is damaged \('x' is neither a table nor a folder\)",
    ),
    "a folder without files": (
        manifest(lambda m: m["outputs"]["model"].update(parts=[]), "distill"),
        r"distill/.*is damaged \(model is empty\)",
    ),
    "a digest that was changed": (
        manifest(lambda m: m["outputs"]["candidates"].update(digest="0" * 64)),
        r"is damaged \(candidates is not the sum of its parts\)",
    ),
    "a part outside the store": (
        part(path="../../../../etc/passwd"),
        r"damaged \('\.\./\.\./\.\./\.\./etc/passwd' is no",
    ),
    "a part with an absolute path": (part(path="/etc/passwd"), r"is damaged \('/etc/passwd' is not a valid store key"),
    "a part with an escape": (
        part(path="candidates/%2e%2e/x"),
        r"is damaged \('candidates/%2e%2e/x' is not a valid store key",
    ),
    "a part with a NUL": (part(path="candidates/a\0b"), r"is damaged \('candidates/a\\x00b' is not a valid store key"),
    "a part of 10 KB of name": (
        part(path=f"candidates/{'x' * 10_240}"),
        r"is damaged \('candidates/x+' is not a valid store key",
    ),
    "a part of another table": (
        part(path="docs/x.parquet"),
        r"is damaged \('docs/x\.parquet' is not part of candidates",
    ),
    "a part of negative rows": (part(rows=-1), r"is not part of candidates\)"),
    "a part of another size": (part(bytes=1), r"mine/.*/candidates/.* is missing or cut short; `hone repair mine/"),
    "a result whose input lies elsewhere": (
        manifest(lambda m: m.update(inputs={"docs": "../../x"})),
        r"is damaged \('\.\./\.\./x' is not a valid store key",
    ),
    "a part that is gone": (stored("mine/*/candidates/*", Path.unlink), r"is missing or cut short; `hone repair mine/"),
    "a part that is cut": (stored("mine/*/candidates/*", lambda p: p.write_bytes(b"")), r"is missing or cut short"),
    "a run whose record is not JSON": (
        record("{"),
        r"runs/r\.json in .* is damaged \(it is not valid JSON\); delete it",
    ),
    "a run whose record is a list": (record("[]"), r"runs/r\.json in .* is damaged \(it is not a JSON object\)"),
    "a run that points elsewhere": (
        record('{"gate": "../../x"}'),
        r"r\.json in .* is damaged \('gate' is not a result\)",
    ),
    "a flipped bit": (verified, r"1 of the above in .* are damaged; each line says what to do"),
    "a flipped bit in what a stage reads": (read_again, r"mine/.* is missing or damaged; `hone repair mine/"),
}
