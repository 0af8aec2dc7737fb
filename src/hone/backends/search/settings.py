"""The settings of nearest-neighbour search."""

from typing import Annotated

from pydantic import Field, field_validator

from hone.backends import BACKENDS
from hone.config import Backend, Resource, Settings


class Search(Settings):
    """How the nearest documents are found."""

    kind: Annotated[str, Backend("search")] = "torch"
    """torch: exact, block by block, from vectors that may be larger than memory. faiss_flat: exact too, quicker on CPU,
    with a copy of all vectors in memory. faiss_ivf: looks at the parts of the corpus nearest to the query, and so
    misses some documents, for corpora where exact search costs too much. FAISS takes GPUs if it is built for them."""
    lists: int = Field(default=0, ge=0)
    """faiss_ivf: the parts into which the corpus is divided; 0 takes 4 times the square root of its size."""
    probes: int = Field(default=64, ge=1)
    """faiss_ivf: the parts that are looked at for each query: more find more and cost more."""
    queries_at_once: Annotated[int, Resource()] = Field(default=1_024, ge=1)
    """Queries searched for at once."""

    @field_validator("kind")
    @classmethod
    def _known(cls, value: str) -> str:
        if value not in BACKENDS["search"]:
            raise ValueError(f"no such search; the kinds are {', '.join(sorted(BACKENDS['search']))}")
        return value
