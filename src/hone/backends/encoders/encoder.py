"""The student: texts to unit vectors, for every stage the same way."""

import hashlib
import re
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from huggingface_hub.errors import StrictDataclassError
from tokenizers.normalizers import Lowercase
from tokenizers.normalizers import Sequence as Normalizers
from tokenizers.processors import Sequence as InTurn
from tokenizers.processors import TemplateProcessing
from torch import Tensor
from transformers import CONFIG_MAPPING, AutoModel, AutoTokenizer

from hone.backends.budget import Budget, tokens_at_once
from hone.backends.encoders import packing, pooling, wide_attention
from hone.backends.encoders.declared import declare, read_declared
from hone.backends.encoders.families import BiEncoder, Family, family
from hone.backends.encoders.head import Head
from hone.backends.precision import resolved_precision
from hone.errors import UserError
from hone.inputs import model_folder
from hone.log import log

TOKEN_BUDGET = 8_192
PACKING_SAMPLE = ("one", "a text of a few words", "and one that is longer, so that padded rows differ in length a lot")
PACKING_TOLERANCE = 2e-2
"""What bf16 may round differently in a unit vector."""
NO_LIMIT = sys.maxsize
WRONG_SHAPE = re.compile(r"mismatch|negative dimension")


class Encoder:
    """A student with its own pooling and prefixes. Loads safetensors only, in fp32, and no code but what is trusted."""

    def __init__(self, folder: Path, student: BiEncoder, *, token_budget: int = TOKEN_BUDGET) -> None:
        declared = read_declared(folder)
        row: Family = family(_model_name(folder))
        self.student, self.declared = student, declared
        self.precision = resolved_precision(student.precision)
        self.pooling = student.pooling if student.pooling != "auto" else declared.pooling or row.pooling
        self.query_prefix = _chosen(student.query_prefix, declared.query_prefix, row.query_prefix)
        self.doc_prefix = _chosen(student.doc_prefix, declared.doc_prefix, row.doc_prefix)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.budget = Budget(tokens_at_once(token_budget, self.device))
        check_code(declared.weights, student.trust_code, "student.trust_code", model_code_digest)
        self.tokenizer = _load_tokenizer(declared.weights, bool(student.trust_code))
        self.model = _load_model(declared.weights, bool(student.trust_code))
        if row.ends:
            end_texts(self.tokenizer)
        if row.both_ways:
            self.model.config.is_causal = False
        self.model.to(self.device).eval()
        if declared.lower_case:
            lower(self.tokenizer)
        self.longest = min(self.tokenizer.model_max_length, positions(self.model), declared.max_tokens or NO_LIMIT)
        self.head = Head(declared.steps, self.pooled).to(self.device) if declared.steps else None
        self.unit, self._pooled_alone = declared.unit, False
        self.packs = False
        if declared.include_prompt and student.packed and self.precision == "bf16" and self.device.type == "cuda":
            self.pack()

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        return self.pooled if self.head is None else self.head.dimension

    @property
    def pooled(self) -> int:
        """Length of what pooling gives."""
        return self.width * len(pooling.names(self.pooling))

    @property
    def width(self) -> int:
        """Numbers that a layer makes of a token."""
        return int(self.model.config.hidden_size)

    @property
    def keeps_length(self) -> bool:
        """Whether the length of a pooled vector matters for what becomes of it, and not its direction alone."""
        return not self.unit or not (self.head is None or self.head.direction_alone)

    def pack(self) -> bool:
        """From now on texts are packed instead of padded, if that gives the same vectors; returns whether it does."""
        before = self.model.config._attn_implementation
        sample = self.tokenize_docs(PACKING_SAMPLE)
        try:
            self.model.set_attn_implementation(packing.NAME)
            with torch.no_grad():
                padded, packed = self.embed(*self.pad(sample)), self._embed_packed(sample)
            self.packs = torch.allclose(packed, padded, atol=PACKING_TOLERANCE)
        except (TypeError, ValueError, RuntimeError) as error:
            log.warning("texts cannot be packed", model=type(self.model).__name__, reason=str(error)[:200])
        if not self.packs:
            self.model.set_attn_implementation(before)
        return self.packs

    def take_gradients(self) -> None:
        """From now on gradients are taken as is fastest here: on a CPU in bf16, with attention in fp32."""
        attends = self.model.config._attn_implementation
        if self.device.type == "cpu" and self.precision == "bf16" and attends == "sdpa":
            self.model.set_attn_implementation(wide_attention.NAME)

    def tokenize_queries(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids with special tokens, the query prefix before each, cut to `max_query_tokens`.

        Where the folder leaves its prompt out of pooling, a first number below 0 says how many tokens that are.
        """
        return self._tokenize(texts, self.query_prefix, self.query_limit)

    def tokenize_docs(self, texts: Sequence[str], limit: int = 0) -> list[list[int]]:
        """Token ids with special tokens, the document prefix before each, cut to `max_doc_tokens` or a lower limit; as
        above."""
        return self._tokenize(texts, self.doc_prefix, self.doc_limit(limit))

    def doc_lengths(self, texts: Sequence[str]) -> list[tuple[int, int]]:
        """How many tokens of each document are read, and how many it has, both with special tokens and the prefix."""
        if not texts:
            return []
        tokenised = self.tokenizer(
            [self.doc_prefix + text for text in texts], truncation=True, max_length=self.doc_limit()
        )
        # What was cut off comes in pieces, each with special tokens of its own.
        return [
            (
                len(one.ids),
                len(one.ids) + sum(len(more.ids) - sum(more.special_tokens_mask) for more in one.overflowing),
            )
            for one in tokenised.encodings or []
        ]

    @property
    def query_limit(self) -> int:
        """The most tokens of a query."""
        return min(self.student.max_query_tokens, self.longest)

    def doc_limit(self, limit: int = 0) -> int:
        """The most tokens of a document, under a `limit` of which 0 is none."""
        longest = min(self.student.max_doc_tokens, self.longest)
        return min(limit or longest, longest)

    def tokenizer_json(self) -> str:
        """The tokenizer as it is saved, free of what was last asked of it."""
        self.tokenizer.backend_tokenizer.no_truncation()
        self.tokenizer.backend_tokenizer.no_padding()
        return self.tokenizer.backend_tokenizer.to_str()

    def embed(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """[n, t] ids and mask (as `pad` gives them) to [n, d] vectors, float32; keeps the graph if gradients are on."""
        with self.autocast():
            hidden = self.model(input_ids=input_ids, attention_mask=(attention_mask > 0).long()).last_hidden_state
        return self.pooled_vectors(hidden.float(), attention_mask)

    def pooled_vectors(self, hidden: Tensor, attention_mask: Tensor) -> Tensor:
        """Token vectors [n, t, h] and mask to [n, d] vectors: what follows the transformer."""
        return self._finished(pooling.pool(hidden, attention_mask, self.pooling))

    def embed_tokens(self, tokens: Sequence[Sequence[int]]) -> Tensor:
        """Token lists to [n, d] unit vectors, float32; packed or padded. Keeps the graph as `embed`."""
        return self._embed_packed(tokens) if self.packs and all(tokens) else self.embed(*self.pad(tokens))

    def _embed_packed(self, tokens: Sequence[Sequence[int]]) -> Tensor:
        row = packing.pack(tokens, self.device)
        with self.autocast():
            hidden = self.model(**row.inputs).last_hidden_state[0]
        return self._finished(pooling.pool_packed(hidden.float(), row.starts, self.pooling))

    def _finished(self, pooled: Tensor) -> Tensor:
        return pooled if self._pooled_alone else self.scaled(pooled if self.head is None else self.head(pooled))

    def scaled(self, vectors: Tensor) -> Tensor:
        """Vectors as they are compared: at length 1, unless the student's are compared by their dot product."""
        return torch.nn.functional.normalize(vectors, dim=-1) if self.unit else vectors

    def add_head(self) -> Head:
        """The linear map over pooled vectors, the identity if the student has none yet."""
        self.head = self.head or Head([], self.pooled).to(self.device)
        return self.head

    @contextmanager
    def without_head(self) -> Generator[Head | None]:
        """The head, without which this encoder works within the block: what pooling gives, at length 1 unless its
        length matters."""
        head, self._pooled_alone = self.head, self.keeps_length
        self.head = None
        try:
            yield head
        finally:
            self.head, self._pooled_alone = head, False

    def autocast(self) -> AbstractContextManager[Any]:
        """Matrix products in the student's precision."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16")

    def pad(self, tokens: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        """Token lists to right-padded ids and mask, both [n, longest] int64. The mask is 0 where padded, and 2 where a
        token is not pooled."""
        skipped = [-ids[0] if len(ids) and ids[0] < 0 else 0 for ids in tokens]
        if any(skipped):
            tokens = [ids[1:] if count else ids for ids, count in zip(tokens, skipped, strict=True)]
        longest = max(len(ids) for ids in tokens)
        input_ids = torch.full((len(tokens), longest), int(self.tokenizer.pad_token_id or 0), dtype=torch.long)
        mask = torch.zeros_like(input_ids)
        for row, ids in enumerate(tokens):
            input_ids[row, : len(ids)] = torch.tensor(ids)
            mask[row, : len(ids)] = pooling.ALONE
            mask[row, : min(skipped[row], len(ids))] = pooling.UNPOOLED
        return input_ids.to(self.device), mask.to(self.device)

    @torch.no_grad()
    def encode_tokens(self, tokens: Sequence[Sequence[int]]) -> np.ndarray:
        """Token lists to [n, d] float32 unit vectors, in the order given."""
        vectors = np.zeros((len(tokens), self.dimension), dtype=np.float32)

        def embed(rows: list[int]) -> None:
            vectors[rows] = self.embed_tokens([tokens[row] for row in rows]).cpu().numpy()

        self.budget.each([len(ids) for ids in tokens], embed)
        return vectors

    def queries(self, texts: Sequence[str]) -> np.ndarray:
        """Queries to [n, d] float32 unit vectors."""
        return self.encode_tokens(self.tokenize_queries(texts))

    def docs(self, texts: Sequence[str]) -> np.ndarray:
        """Documents to [n, d] float32 unit vectors."""
        return self.encode_tokens(self.tokenize_docs(texts))

    def save(self, folder: Path) -> None:
        """Writes a folder that `SentenceTransformer(folder)` loads and that gives the same vectors."""
        folder.mkdir(parents=True, exist_ok=True)
        self.model.save_pretrained(folder)
        # The limit of the last call would be saved with the tokenizer, and other tools obey it.
        self.tokenizer.backend_tokenizer.no_truncation()
        self.tokenizer.save_pretrained(folder)
        says = replace(
            self.declared,
            query_prefix=self.query_prefix,
            doc_prefix=self.doc_prefix,
            max_tokens=self.doc_limit(),
        )
        modules = [] if self.head is None else self.head.saved()
        declare(folder, says, pooling_way=self.pooling, hidden=self.width, modules=modules)

    def _tokenize(self, texts: Sequence[str], prefix: str, limit: int) -> list[list[int]]:
        if not texts:
            return []
        ids_of_texts = self.tokenizer([prefix + text for text in texts], truncation=True, max_length=limit)["input_ids"]
        if self.declared.include_prompt or not prefix:
            return ids_of_texts
        alone = self.tokenizer(prefix, truncation=True, max_length=limit)["input_ids"]
        count = len(alone) - (alone[-1] in self.tokenizer.all_special_ids)
        return [[-count, *ids] for ids in ids_of_texts] if count else ids_of_texts


def positions(model: Any) -> int:
    """The most tokens of a text that a model has positions for. RoBERTa and its kin count from after the padding."""
    tables = (part for name, part in model.named_modules() if name.endswith("position_embeddings"))
    table = next((part for part in tables if getattr(part, "padding_idx", None) is not None), None)
    if table is not None:
        return int(table.num_embeddings) - int(table.padding_idx) - 1
    limit = getattr(model.config, "max_position_embeddings", None)
    return int(limit) if isinstance(limit, int) and limit > 0 else NO_LIMIT


def lower(tokenizer: Any) -> None:
    """Puts texts in lower case before they are cut into tokens, as a folder may ask for. Saved with the tokenizer."""
    backend = tokenizer.backend_tokenizer
    backend.normalizer = Normalizers([Lowercase(), *([backend.normalizer] if backend.normalizer else [])])


def _model_name(folder: Path) -> str:
    """A folder's name; a download cache calls it by a hash and keeps the model's name two levels up."""
    return folder.parents[1].name if folder.parent.name == "snapshots" else folder.name


def check_code(folder: Path, trusted: str, setting: str, digest: Callable[[Path], str]) -> None:
    """Raises UserError if a model folder brings code that the settings do not name by its digest."""
    config = _read_json(folder / "config.json")
    own = "auto_map" in config and config.get("model_type") not in CONFIG_MAPPING
    if not own and not trusted:
        return
    actual = digest(folder)
    if not trusted:
        raise UserError(f"{folder} brings code of its own: read it, and to run it set {setting} to {actual}")
    if trusted != actual:
        raise UserError(f"{setting} is not the sha256 of {folder}, which is {actual}: read its code again")


def model_code_digest(folder: Path) -> str:
    """sha256 over the names and bytes of the Python files of a model folder: training changes its weights alone."""
    digest = hashlib.sha256()
    for file in sorted(folder.glob("*.py")):
        content = file.read_bytes()
        digest.update(f"{file.name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def _load_tokenizer(weights: Path, trusted: bool) -> Any:
    with named_faults(weights):
        tokenizer: Any = AutoTokenizer.from_pretrained(weights, local_files_only=True, trust_remote_code=trusted)
    if tokenizer.pad_token_id is None:
        # What stands there is masked; saved with it, so that other tools can pad too.
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.convert_ids_to_tokens(0)
    tokenizer.padding_side = "right"
    return tokenizer


def end_texts(tokenizer: Any) -> None:
    """Ends every text with the mark for the end, if the tokenizer does not by itself. Saved with it.

    Some folders leave that to a setting which transformers 5 does not obey.
    """
    mark, number = tokenizer.eos_token, tokenizer.eos_token_id
    if tokenizer("")["input_ids"][-1:] == [number]:
        return
    backend = tokenizer.backend_tokenizer
    ending = TemplateProcessing(single=f"$A {mark}", special_tokens=[(mark, number)])
    backend.post_processor = InTurn([backend.post_processor, ending]) if backend.post_processor else ending


def _load_model(weights: Path, trusted: bool) -> Any:
    # A head that the folder lacks and nothing uses starts at random: the same on every run.
    with named_faults(weights), torch.random.fork_rng():
        torch.manual_seed(0)
        model, loading = AutoModel.from_pretrained(
            weights,
            local_files_only=True,
            trust_remote_code=trusted,
            use_safetensors=True,
            dtype=torch.float32,
            output_loading_info=True,
        )
    missing = sorted(name for name in loading["missing_keys"] if "pooler" not in name)
    if missing:
        raise UserError(f"the weights in {weights} lack {missing[0]}; config.json and weights must be of one model")
    return model


@contextmanager
def named_faults(weights: Path) -> Generator[None]:
    """What transformers finds wrong with a folder, as one sentence."""
    try:
        yield
    except (OSError, ValueError, RuntimeError, KeyError, StrictDataclassError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        if isinstance(error, RuntimeError) and not WRONG_SHAPE.search(str(error)):
            raise
        if isinstance(error, RuntimeError):
            flaw = "config.json gives other shapes than the weights have"
        elif isinstance(error, KeyError):
            flaw = f"config.json names {error}, which is unknown"
        else:
            flaw = " ".join(str(error).split()) if isinstance(error, StrictDataclassError) else _first_line(error)
        raise UserError(f"{weights} cannot be loaded ({flaw}); copy the model folder again") from error


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]


def _read_json(path: Path) -> dict[str, Any]:
    return model_folder.json_object(path) if path.is_file() else {}


def _chosen(setting: str, declared: str | None, row: str) -> str:
    return setting if setting != "auto" else declared if declared is not None else row
