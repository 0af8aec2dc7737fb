from .best import best_of as best_of
from .bm25 import BM25 as BM25
from .bm25 import index_of as index_of
from .dense_retrieval import dense as dense
from .exact import top_k as top_k
from .faiss_index import write_flat as write_flat
