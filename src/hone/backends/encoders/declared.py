"""What a model folder says of itself, read and written as sentence-transformers does."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from hone.backends.encoders import pooling
from hone.backends.encoders.head import Cut, Dense, Step, Unit, load_steps
from hone.errors import UserError
from hone.inputs import model_folder

QUERY, DOC = ("query",), ("document", "passage", "corpus")
"""The names of prompts that stand for a role; of several the first that is there."""
SIMILARITIES = ("cosine", "dot")
FAMILIES = ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
TRANSFORMER_FILES = tuple(f"sentence_{family}_config.json" for family in FAMILIES)
"""What sentence-transformers has called the settings of its Transformer module."""
PLAIN_TEXT = {"method": "forward", "method_output_name": "last_hidden_state"}


@dataclass(frozen=True)
class Declared:
    """What a model folder says of itself; None where it is silent.

    `steps` stand between pooling and the vector. `normalize`: vectors leave the folder's modules at length 1.
    """

    weights: Path
    pooling: str | None = None
    query_prefix: str | None = None
    doc_prefix: str | None = None
    steps: Sequence[Step] = ()
    normalize: bool = True
    similarity: str = "cosine"
    truncate_dim: int | None = None
    include_prompt: bool = True
    max_tokens: int | None = None
    lower_case: bool = False
    prompts: Mapping[str, str] = field(default_factory=dict[str, str])
    default_prompt: str | None = None

    @property
    def unit(self) -> bool:
        """Whether vectors are compared by their direction alone."""
        return self.similarity == "cosine" or self.normalize


def usable_folder(folder: Path, setting: str) -> Path:
    """Where in a model folder the weights lie. Raises UserError, naming the setting, if it cannot be used."""
    if not folder.is_dir():
        raise UserError(f"the model folder {folder} does not exist; correct {setting}")
    return model_folder.check(folder)


def read_declared(folder: Path, setting: str = "student.model") -> Declared:
    """What a model folder declares. Raises UserError, naming what it declares, where Hone would give other vectors."""
    weights = usable_folder(folder, setting)
    places, tail = _places(folder)
    pooled = _read(places / "config.json")
    says = _read(folder / "config_sentence_transformers.json")
    limit, lower_case = _transformer(weights, folder)
    steps: list[Step] = [*load_steps(folder, tail)]
    normalize = (bool(steps) and isinstance(steps[-1], Unit)) if model_folder.modules(folder) else True
    similarity, truncate_dim = _similarity(says, folder, normalize), _truncate_dim(says, folder)
    kept = similarity == "dot" and normalize and truncate_dim is not None
    if steps and isinstance(steps[-1], Unit) and not kept:
        steps.pop()
    if truncate_dim is not None:
        steps.append(Cut(truncate_dim))
    prompts, default = _prompts(says, folder)
    return Declared(
        weights,
        pooling.declared(pooled, places / "config.json"),
        _prompt(prompts, QUERY, default),
        _prompt(prompts, DOC, default),
        steps,
        normalize and not kept,
        similarity,
        truncate_dim,
        bool(pooled.get("include_prompt", True)),
        limit,
        lower_case,
        prompts,
        default,
    )


def declare(
    folder: Path, declared: Declared, *, pooling_way: str, hidden: int, modules: Sequence[Dense | Unit]
) -> None:
    """Writes the files by which sentence-transformers knows all of this. `modules` stand between pooling and the last
    normalisation; `hidden` are the numbers of a token's vector."""
    base = "sentence_transformers.models."
    listed = [("", "Transformer"), ("1_Pooling", "Pooling")]
    for step in (*modules, *([Unit()] if declared.normalize else [])):
        kind = "Dense" if isinstance(step, Dense) else "Normalize"
        listed.append((f"{len(listed)}_{kind}", kind))
        step.save(folder / listed[-1][0])
    entries = [
        {"idx": number, "name": str(number), "path": path, "type": base + kind}
        for number, (path, kind) in enumerate(listed)
    ]
    _write(folder / "modules.json", entries)
    config = pooling.config_of(pooling_way, hidden, include_prompt=declared.include_prompt)
    _write(folder / "1_Pooling" / "config.json", config)
    _write(folder / "sentence_bert_config.json", {"max_seq_length": declared.max_tokens, "do_lower_case": False})
    says = {
        "prompts": {**declared.prompts, "query": declared.query_prefix, "document": declared.doc_prefix},
        "default_prompt_name": declared.default_prompt,
        "similarity_fn_name": declared.similarity,
    } | ({} if declared.truncate_dim is None else {"truncate_dim": declared.truncate_dim})
    _write(folder / "config_sentence_transformers.json", says)


def _places(folder: Path) -> tuple[Path, list[dict[str, str]]]:
    """Where the pooling file lies, and the modules after it. Raises UserError unless they are a transformer, its
    pooling and what may follow."""
    entries = model_folder.modules(folder)
    if not entries:
        return folder / "1_Pooling", []
    kinds = [model_folder.kind(entry) for entry in entries]
    if kinds[:2] != ["Transformer", "Pooling"] or {"Transformer", "Pooling"} & set(kinds[2:]):
        raise UserError(
            f"{folder / 'modules.json'} lists {', '.join(kinds)}; Hone knows Transformer, Pooling and then Dense and "
            "Normalize: name another model"
        )
    return folder / entries[1]["path"], entries[2:]


def _transformer(weights: Path, folder: Path) -> tuple[int | None, bool]:
    """The most tokens that a folder gives its model, and whether texts are put in lower case."""
    path = next((weights / name for name in TRANSFORMER_FILES if (weights / name).is_file()), weights / "-")
    says = _read(path)
    text = cast(dict[str, Any], says.get("modality_config") or {"text": PLAIN_TEXT})
    odd = {
        "transformer_task": says.get("transformer_task") not in (None, "feature-extraction"),
        "modality_config": text.get("text") != PLAIN_TEXT or "message" in text,  # which puts texts into a chat template
        "module_output_name": says.get("module_output_name") not in (None, "token_embeddings"),
        "processing_kwargs": bool(says.get("processing_kwargs")),
        "query_expansion": bool(says.get("query_expansion")),
        "query_length": says.get("query_length") is not None,
        "document_length": says.get("document_length") is not None,
    }
    for key in (key for key, wrong in odd.items() if wrong):
        raise UserError(f"{path} sets {key} to {str(says[key])[:80]}, which Hone does not know; name another model")
    limit = says.get("max_seq_length")
    return (int(limit) if isinstance(limit, int) and limit > 0 else None), bool(says.get("do_lower_case"))


def _similarity(says: Mapping[str, Any], folder: Path, normalize: bool) -> str:
    """cosine or dot. Of unit vectors the Euclidean distance ranks as the cosine does."""
    named = says.get("similarity_fn_name") or "cosine"
    if named == "euclidean" and normalize and says.get("truncate_dim") is None:
        return "cosine"
    if named not in SIMILARITIES:
        raise UserError(
            f"{folder / 'config_sentence_transformers.json'} names the similarity_fn_name {named!r}; Hone knows "
            f"{' and '.join(SIMILARITIES)}: name another model"
        )
    return str(named)


def _truncate_dim(says: Mapping[str, Any], folder: Path) -> int | None:
    size = says.get("truncate_dim")
    if size is not None and not (isinstance(size, int) and size > 0):
        where = folder / "config_sentence_transformers.json"
        raise UserError(f"{where}: truncate_dim is {size!r}, not a number above 0; correct it there")
    return size


def _prompts(says: Mapping[str, Any], folder: Path) -> tuple[dict[str, str], str | None]:
    """All prompts by name, and which of them is the default. Raises UserError for a default that is not there."""
    given = says.get("prompts")
    named = cast(dict[str, Any], given) if isinstance(given, dict) else {}
    prompts = {str(name): str(text or "") for name, text in named.items()}
    default = says.get("default_prompt_name")
    if default is not None and default not in prompts:
        where = folder / "config_sentence_transformers.json"
        raise UserError(f"{where}: default_prompt_name is {default!r}, not one of its prompts; correct it there")
    return prompts, default


def _prompt(prompts: Mapping[str, str], role: Sequence[str], default: str | None) -> str | None:
    """The prompt of a role. A folder with prompts for neither role puts its default before every text; one that has a
    prompt for one role puts nothing before the other."""
    if not prompts:
        return None
    if default is not None and not any(prompts.get(name) for name in (*QUERY, *DOC)):
        return prompts[default]
    return next((prompts[name] for name in role if name in prompts), "")


def _read(path: Path) -> dict[str, Any]:
    return model_folder.json_object(path) if path.is_file() else {}


def _write(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2), "utf-8")
