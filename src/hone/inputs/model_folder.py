"""Model folders at the door: what is wrong with one is said before anything is computed, and without torch.

Only safetensors are weights: a pickle can run code when it is read.
"""

import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from pydantic import BaseModel, TypeAdapter, ValidationError

from hone.errors import UserError

MODULES = ("Transformer", "Pooling", "Dense", "Normalize")
TOKENIZERS = ("tokenizer.json", "vocab.txt", "vocab.json", "spiece.model", "tokenizer.model", "sentencepiece.bpe.model")
LARGEST_HEADER = 100 << 20
COPY = "copy the model folder again"
LIBRARY = "sentence_transformers."
DECLARED = re.compile(
    r"(?:(?:\d+_\w+|0_Transformer)/)?(?:config|generation_config|modules|\w*tokenizer\w*|special_tokens_map|added_tokens|vocab"
    r"|preprocessor_config|processor_config|chat_template|sentence_\w+_config|config_sentence_transformers)\.json"
    r"|(?:\d+_\w+/)?(?:model[\w.-]*\.safetensors(?:\.index\.json)?|vocab\.txt|merges\.txt|chat_template\.jinja"
    r"|tokenizer\.model|\w+\.bpe\.model|spiece\.model)"
    r"|training\.json|(?:README|LICENSE|LICENCE|NOTICE)(?:\.\w+)?",
    re.IGNORECASE,
)
"""The files of a model folder, by their path in it: what loads a model reads these and nothing else."""
SHOWN = 5


class _Tensor(BaseModel):
    """What the header of a safetensors file says of one tensor; its entry of notes says nothing of the kind."""

    data_offsets: tuple[int, int] = (0, 0)


HEADER = TypeAdapter(dict[str, _Tensor])


def check(folder: Path) -> Path:
    """Where in a model folder config.json and the weights lie. Raises UserError if they cannot be loaded.

    Configuration, tokenizer and the headers of the weights are looked at, whatever the size of the model.
    """
    weights = folder / next((entry["path"] for entry in modules(folder) if kind(entry) == "Transformer"), "")
    if not (weights / "config.json").is_file():
        raise UserError(f"{weights} has no config.json; name a transformers model folder")
    json_object(weights / "config.json")
    if not any((place / name).is_file() for place in (weights, folder) for name in TOKENIZERS):
        raise UserError(f"{weights} has no tokenizer ({', '.join(TOKENIZERS)}); {COPY}")
    files = sorted(weights.glob("*.safetensors"))
    if not files:
        raise UserError(f"{weights} has no .safetensors weights; convert the model to safetensors (pickle is refused)")
    for file in files:
        if flaw := _flaw(file):
            raise UserError(f"{file} is damaged ({flaw}); {COPY}")
    _check_index(weights / "model.safetensors.index.json")
    return weights


def copy_declared(folder: Path, target: Path) -> None:
    """Copies a model folder's files. Raises UserError that names whatever else is in it, or leads out of it.

    Hidden files (.git, .cache ...) stay behind. A folder of a hub's cache may link to the blobs beside it.
    """
    modules(folder)
    files = sorted(_below(folder))
    strange = [name for name in files if not DECLARED.fullmatch(name)]
    if strange:
        shown = ", ".join(strange[:SHOWN]) + (f" and {len(strange) - SHOWN} more" if len(strange) > SHOWN else "")
        raise UserError(
            f"{folder} contains what does not belong to a model ({shown}); give a copy of the folder without it"
        )
    roots = [folder.resolve(), *([folder.resolve().parents[1] / "blobs"] if folder.parent.name == "snapshots" else [])]
    for name in files:
        file = (folder / name).resolve()
        if not any(file.is_relative_to(root) for root in roots) or not file.is_file():
            raise UserError(
                f"{folder / name} is a link to outside the folder; give a copy that contains the file itself"
            )
    for name in files:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / name, target / name)


def _below(folder: Path) -> Iterator[str]:
    """Every file and every link in a folder, hidden ones left out, by its path in it."""
    for place, folders, files in os.walk(folder):
        linked = [name for name in folders if (Path(place) / name).is_symlink()]
        folders[:] = [name for name in folders if not name.startswith(".") and name not in linked]
        for name in (*files, *linked):
            if not name.startswith("."):
                yield (Path(place) / name).relative_to(folder).as_posix()


def modules(folder: Path) -> list[dict[str, str]]:
    """What modules.json lists. Raises UserError for a module that would be left out silently, or lies elsewhere."""
    path = folder / "modules.json"
    if not path.is_file():
        return []
    try:
        entries = TypeAdapter(list[dict[str, Any]]).validate_json(path.read_bytes())
        listed = [{"type": str(entry["type"]), "path": str(entry["path"])} for entry in entries]
    except (ValidationError, KeyError) as error:
        raise UserError(f"{path} is not a list of modules; {COPY}") from error
    for entry in listed:
        if kind(entry) not in MODULES or not entry["type"].startswith(LIBRARY):
            raise UserError(f"{path} lists {entry['type']}; Hone knows {', '.join(MODULES)}: name another model")
        if not (folder / entry["path"]).resolve().is_relative_to(folder.resolve()):
            raise UserError(f"{path} lists {entry['path'][:80]!r}, which is outside the folder; {COPY}")
    return listed


def kind(entry: dict[str, str]) -> str:
    """The class of a module that modules.json lists, such as Pooling."""
    return entry["type"].rpartition(".")[2]


def json_object(path: Path) -> dict[str, Any]:
    """A JSON file that holds an object. Raises UserError."""
    try:
        content: object = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not valid JSON ({error}); {COPY}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} is not a JSON object; {COPY}")
    return cast(dict[str, Any], content)


def _flaw(file: Path) -> str:
    """What is wrong with a safetensors file: eight bytes that give the header's length, the header, the tensors."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if size < 8 or length > min(LARGEST_HEADER, size - 8):
            return f"of {size:,} bytes, fewer than its header needs"
        try:
            header = HEADER.validate_json(stream.read(length))
        except ValidationError:
            return "its header is not readable"
    end = 8 + length + max((tensor.data_offsets[1] for tensor in header.values()), default=0)
    return "" if end == size else f"it should have {end:,} bytes and has {size:,}"


def _check_index(path: Path) -> None:
    """Weights in several files: every one that the index names must be there. Raises UserError."""
    if not path.is_file():
        return
    places = json_object(path).get("weight_map")
    if not isinstance(places, dict):
        raise UserError(f"{path} lists no weight files; {COPY}")
    for name in sorted({str(name) for name in cast(dict[str, object], places).values()}):
        if not (path.parent / name).is_file():
            raise UserError(f"{path.parent / name} is missing, which {path.name} names; {COPY}")
