"""Model folders that are refused before anything is computed."""

import pickle
from collections.abc import Callable

from bad.home import Case, Home, Spoil
from hone.inputs import model_folder


def student(name: str, content: str | bytes) -> Spoil:
    """Another content of a file of the student."""
    return lambda home: home.write(f"student/{name}", content)


def weights(change: Callable[[bytes], bytes]) -> Spoil:
    """Other bytes of the student's weights."""

    def spoil(home: Home) -> None:
        path = home.folder / "student" / "model.safetensors"
        path.write_bytes(change(path.read_bytes()))

    return spoil


def pickled(home: Home) -> None:
    (home.folder / "student" / "model.safetensors").rename(home.folder / "student" / "pytorch_model.bin")


def no_tokenizer(home: Home) -> None:
    for name in model_folder.TOKENIZERS:
        (home.folder / "student" / name).unlink(missing_ok=True)


CASES: dict[str, Case] = {
    "a model that is missing": (lambda h: h.settings(student={"model": "no"}), r"/no does not exist; correct the path"),
    "a package that is missing": (
        lambda h: h.settings(student={"model": "package:no_such"}),
        r"package:no_such is not an installed Python package",
    ),
    "a folder that is not a model": (
        lambda h: (h.folder / "student" / "config.json").unlink(),
        r"student has no config\.json; name a transformers model folder",
    ),
    "a configuration that is not JSON": (student("config.json", "{"), r"config\.json is not valid JSON .*; copy the"),
    "a configuration that is a list": (
        student("config.json", "[]"),
        r"config\.json is not a JSON object; copy the model",
    ),
    "a configuration of bytes": (student("config.json", b"\xff"), r"config\.json is not valid JSON"),
    "a model without tokenizer": (no_tokenizer, r"student has no tokenizer \(tokenizer\.json, .*\); copy the model"),
    "a pickled model": (pickled, r"student has no \.safetensors weights; convert the model to safetensors"),
    "weights cut short": (
        weights(lambda d: d[:-9]),
        r"model\.safetensors is damaged \(it should have .* bytes and has",
    ),
    "weights with something after them": (weights(lambda d: d + b"#!"), r"is damaged \(it should have .* bytes"),
    "weights of no bytes": (weights(lambda d: b""), r"is damaged \(of 0 bytes, fewer than its header needs\)"),
    "weights whose header claims all memory": (
        weights(lambda d: b"\xff" * 8 + d[8:]),
        r"is damaged \(of .* bytes, fewer than its header needs\); copy the model folder again",
    ),
    "weights whose header is not JSON": (
        weights(lambda d: d[:8] + b"\x80" + d[9:]),
        r"is damaged \(its header is not readable\)",
    ),
    "a pickle called safetensors": (
        weights(lambda d: pickle.dumps({"weights": [1.0] * 99})),
        r"is damaged \(of .* bytes, fewer than its header needs\)",
    ),
    "weights in parts, one of which is missing": (
        student("model.safetensors.index.json", '{"weight_map": {"a": "model-00002-of-00002.safetensors"}}'),
        r"model-00002-of-00002\.safetensors is missing, which model\.safetensors\.index\.json names",
    ),
    "an index that names nothing": (student("model.safetensors.index.json", "{}"), r"lists no weight files; copy"),
    "modules that are not a list": (student("modules.json", "{}"), r"modules\.json is not a list of modules; copy"),
    "a module of another kind": (
        student("modules.json", '[{"type": "evil.Code", "path": ""}]'),
        r"modules\.json lists evil\.Code; Hone knows Transformer",
    ),
    "a module that lies elsewhere": (
        student("modules.json", '[{"type": "sentence_transformers.models.Transformer", "path": "../../etc"}]'),
        r"modules\.json lists '\.\./\.\./etc', which is outside the folder",
    ),
    "a teacher that is not a model": (
        lambda h: h.settings(teacher={"kind": "cross_encoder", "model": "corpus"}, curate={}),
        r"corpus has no config\.json; name a transformers model folder",
    ),
}
