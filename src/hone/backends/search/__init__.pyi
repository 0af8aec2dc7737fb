from .bm25 import BM25 as BM25
from .dense_retrieval import dense as dense
from .exact import top_k as top_k
