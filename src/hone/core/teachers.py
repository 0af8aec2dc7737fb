"""The settings of the teacher."""

from hone.sources import Source
from hone.stage import Settings


class Teacher(Settings):
    """Who judges the candidates."""

    kind: str = "cross_encoder"
    """cross_encoder: any sequence-classification folder, raw logits. fusion: BM25 + student, needs no weights."""
    model: Source = ""
    """The folder of the cross-encoder."""
    max_tokens: int = 512
    """Query and document together are cut to this many tokens."""
    lexical_weight: float = 0.3
    """fusion: the share of BM25 beside the student's cosine, both standardised over a query's pool."""
    feedback_docs: int = 3
    """fusion: how many of the best documents move the query for a second opinion; 0 for none."""
    feedback_weight: float = 0.5
    """fusion: how far they move it."""
    pool: int = 100
    """fusion: the student's and BM25's best so many form the pool over which scores are standardised."""
    force: bool = False
    """Train even with a teacher that did not beat the student."""
