"""Any sequence-classification cross-encoder as a teacher: raw logits, length-sorted batches across queries."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from hone.backends.encoder import read_declared, token_batches
from hone.errors import UserError


class CrossEncoder:
    """Scores pairs one by one: its opinion of a document does not depend on the others. Safetensors only."""

    pairwise = True

    def __init__(self, folder: Path, max_tokens: int, token_budget: int) -> None:
        read_declared(folder)
        self.max_tokens, self.token_budget = max_tokens, token_budget
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder, **options)
        self.model: Any = AutoModelForSequenceClassification.from_pretrained(
            folder, use_safetensors=True, dtype=torch.float32, **options
        )
        if self.model.config.num_labels != 1:
            raise UserError(f"{folder} has {self.model.config.num_labels} labels; a teacher gives one score a pair")
        self.model.to(self.device).eval()

    @torch.no_grad()
    def score_pairs(self, queries: Sequence[str], docs: Sequence[str]) -> np.ndarray:
        """[n] float32 logits of n pairs, in the order given. The document is cut, never the query."""
        if not queries:
            return np.zeros(0, dtype=np.float32)
        encoded = self.tokenizer(list(queries), list(docs), truncation="only_second", max_length=self.max_tokens)
        scores = np.zeros(len(queries), dtype=np.float32)
        for rows in token_batches([len(ids) for ids in encoded["input_ids"]], self.token_budget):
            chosen = {name: [values[row] for row in rows] for name, values in encoded.items()}
            batch = self.tokenizer.pad(chosen, return_tensors="pt").to(self.device)
            scores[rows] = self.model(**batch).logits[:, 0].float().cpu().numpy()
        return scores
