"""The settings of the teacher."""

from typing import Literal

from pydantic import Field, field_validator

from hone.backends import BACKENDS
from hone.sources import Source
from hone.stage import Settings


class OneTeacher(Settings):
    """One judge of the candidates."""

    kind: str = "cross_encoder"
    """cross_encoder: any sequence-classification folder, raw logits. monot5, rankt5: T5 rerankers. yes_no: a causal
    language model in the form of Qwen3-Reranker. bge_lightweight: BGE gemma2-lightweight, which runs its own code.
    fusion: BM25 + student, needs no weights. ensemble: the weighted mean of teacher.members."""
    model: Source = ""
    """The folder of the model; fusion and ensemble need none."""
    max_tokens: int = Field(default=512, ge=16)
    """Query and document together are cut to this many tokens."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Weights and matrix products of the model."""
    instruction: str = ""
    """yes_no and bge_lightweight: what the model is asked to judge by; empty takes what it was trained with."""
    trust_code: str = ""
    """A model that brings its own code is run only if this is the sha256 of its folder, which the refusal tells."""
    weight: float = Field(default=1.0, gt=0)
    """As a member of an ensemble: its share beside the others'."""
    lexical_weight: float = 0.3
    """fusion: the share of BM25 beside the student's cosine, both standardised over a query's pool."""
    feedback_docs: int = 3
    """fusion: how many of the best documents move the query for a second opinion; 0 for none."""
    feedback_weight: float = 0.5
    """fusion: how far they move it."""
    pool: int = 100
    """fusion: the student's and BM25's best so many form the pool over which scores are standardised."""

    @field_validator("kind")
    @classmethod
    def _known(cls, value: str) -> str:
        if value not in BACKENDS["teacher"]:
            raise ValueError(f"no such teacher; the kinds are {', '.join(sorted(BACKENDS['teacher']))}")
        return value


class Teacher(OneTeacher):
    """Who judges the candidates."""

    members: tuple[OneTeacher, ...] = ()
    """ensemble: the teachers it is made of. Each one's scores are standardised over the queries that qualify it."""
    force: bool = False
    """Train even with a teacher that did not beat the student."""
