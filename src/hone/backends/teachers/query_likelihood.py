"""A causal language model as a teacher: how likely it finds the query after the document.

The score is the mean log-probability of the query's tokens (Sachan et al., "Improving Passage Retrieval with Zero-Shot
Question Generation", EMNLP 2022). The document stands first, so its keys and values are computed once for all of its
queries. A model that is not trained to rank will do: the one that writes the queries can judge them too.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from hone.backends.budget import Budget, tokens_at_once
from hone.backends.encoders.encoder import check_code, named_faults, read_declared
from hone.backends.precision import torch_dtype
from hone.backends.shared_prefix import Batch, Beginnings, can_share
from hone.backends.teachers.pair_models import LENGTH_STEP, ROW_STEP, padded_length, positions
from hone.backends.teachers.settings import OneTeacher
from hone.errors import UserError
from hone.inputs.references import content_digest

INSTRUCTION = "Please write a question based on this passage."
LOCAL: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
QUERY_TOKENS = 64
"""Longer queries are judged by their beginning, so that the room for the document depends on the document alone."""
PAIRS_AT_ONCE = {"cpu": 64, "cuda": 1_024}
"""On a CPU a pair of a new document takes a second or more."""
ROWS = 32
"""Queries of a document at once: every one of their tokens has a row of the vocabulary's logits."""


class Texts:
    """The tokens that stand before a query, and those of the query, for whichever engine."""

    def __init__(self, settings: OneTeacher, folder: Path) -> None:
        """Raises UserError if the folder is not a model, or brings code of its own; no weights are read."""
        self.instruction = settings.instruction or INSTRUCTION
        read_declared(folder, "teacher.model")
        check_code(folder, "", "teacher.trust_code", content_digest)
        with named_faults(folder):
            self.tokenizer: Any = transformers.AutoTokenizer.from_pretrained(folder, **LOCAL)
            config: Any = transformers.AutoConfig.from_pretrained(folder, **LOCAL)
        self.limit = min(settings.max_tokens, self.tokenizer.model_max_length, positions(config))
        self.query_tokens = min(QUERY_TOKENS, self.limit // 2)

    def prefix(self, doc: str) -> list[int]:
        """All that stands before the query; the document is cut so that the longest query fits."""
        bare = len(self._rendered(""))
        room = self.limit - self.query_tokens - bare
        if room <= 0:
            raise UserError(f"teacher.max_tokens of {self.limit} leaves no room for a document beside the instruction")
        encoded = self.tokenizer(
            doc, add_special_tokens=False, truncation=True, max_length=room, return_offsets_mapping=True
        )  # fmt: skip
        ends = encoded["offset_mapping"]
        return self._rendered(doc[: ends[-1][1]] if ends else "")

    def _rendered(self, doc: str) -> list[int]:
        said = f"Passage: {doc}\n{self.instruction}"
        if not self.tokenizer.chat_template:
            return self.tokenizer(f"{said}\n")["input_ids"]
        text = self.tokenizer.apply_chat_template(
            [{"role": "user", "content": said}], tokenize=False, add_generation_prompt=True, enable_thinking=False
        )
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def query(self, query: str) -> list[int]:
        """Its tokens, of which there is always one."""
        ids = self.tokenizer(query, add_special_tokens=False)["input_ids"][: self.query_tokens]
        return ids or [int(self.tokenizer.eos_token_id)]


class QueryLikelihood:
    """A teacher whose opinion of a document does not depend on the others. Safetensors only, and no code of the folder.

    A pair's score depends on the pair alone: a document is computed by itself, and its queries in rows of one padded
    length, filled up to a multiple of four.
    """

    pairwise = True
    documents_first = True

    def __init__(self, settings: OneTeacher, folder: Path, token_budget: int) -> None:
        """Raises UserError if the folder is not a causal language model, or brings code of its own."""
        self.texts = Texts(settings, folder)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.pairs_at_once = PAIRS_AT_ONCE[self.device.type]
        self.budget = Budget(tokens_at_once(token_budget, self.device))
        with named_faults(folder):
            dtype = torch_dtype(settings.precision)
            loader: Any = transformers.AutoModelForCausalLM
            model, loading = loader.from_pretrained(
                folder, use_safetensors=True, dtype=dtype, output_loading_info=True, **LOCAL
            )
        if loading["missing_keys"]:
            raise UserError(
                f"the weights in {folder} lack {min(loading['missing_keys'])}: it is not a causal language model"
            )
        self.model: Any = model.to(self.device).eval()
        self.shares = can_share(self.model)
        self.beginnings = Beginnings(self.model, int(self.texts.tokenizer.pad_token_id or 0))

    @torch.no_grad()
    def score_pairs(self, queries: Sequence[str], docs: Sequence[str]) -> np.ndarray:
        """[n] float32 mean log-probabilities of n pairs, in the order given. The document is cut to fit."""
        scores = np.zeros(len(queries), dtype=np.float32)
        by_doc: dict[str, list[int]] = {}
        for row, doc in enumerate(docs):
            by_doc.setdefault(doc, []).append(row)
        texts = [self.texts.query(query) for query in queries]
        for doc, rows in by_doc.items():
            prefix = self.texts.prefix(doc)
            for width in sorted({padded_length(len(texts[row])) for row in rows}):
                alike = [row for row in rows if padded_length(len(texts[row])) == width]
                for start in range(0, len(alike), ROWS):
                    part = alike[start : start + ROWS]
                    scores[part] = self._likelihoods(prefix, [texts[row] for row in part])
        return scores

    def _likelihoods(self, prefix: list[int], queries: list[list[int]]) -> np.ndarray:
        """[n] mean log-probabilities of queries of one padded length after a prefix."""
        filled = queries + [queries[-1]] * (-len(queries) % ROW_STEP)
        done: list[np.ndarray] = []

        def score(tokens: int) -> list[np.ndarray]:
            step = max(1, tokens // LENGTH_STEP // ROW_STEP) * ROW_STEP
            return [self._batch(prefix, filled[at : at + step]) for at in range(0, len(filled), step)]

        done = self.budget.fitting(score, least=LENGTH_STEP * ROW_STEP)
        return np.concatenate(done)[: len(queries)]

    def _batch(self, prefix: list[int], queries: list[list[int]]) -> np.ndarray:
        held, rest = (prefix[:-1], prefix[-1:]) if self.shares else ([], prefix)
        tails = [[*rest, *query[:-1]] for query in queries]
        state = self.beginnings.state(Batch(list(range(len(tails))), held, [[]], [0] * len(tails), tails))
        places = padded_length(max(map(len, queries)))
        logits = self.beginnings.forward(state, tails, keep=places, width=len(rest) - 1 + places)
        likelihoods = np.zeros(len(queries), dtype=np.float32)
        for row, query in enumerate(queries):
            known = torch.log_softmax(logits[row, places - len(query) :].float(), dim=-1)
            likelihoods[row] = known.gather(1, torch.tensor(query, device=self.device)[:, None]).mean().item()
        return likelihoods
