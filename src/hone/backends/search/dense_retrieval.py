"""What a student retrieves for judged queries: exact search over all documents."""

from hone.backends.encoders.encoder import Encoder
from hone.backends.encoders.vectors import encode_by, encode_queries
from hone.backends.search.exact import top_k
from hone.context import Job
from hone.evaluation.rankings import Ranking, answer
from hone.evaluation.test_collections import Judged


def dense(job: Job, encoder: Encoder, judged: Judged, depth: int, label: str) -> list[Ranking]:
    """The best `depth` documents of every query, by a student as it is now; `label` has a place for what is encoded."""
    doc_ids, vectors = encode_by(job, encoder, label.format("docs"), judged.docs)
    queries = encode_queries(job, encoder, label.format("queries"), judged.texts)
    positions, scores = top_k(queries, vectors, depth + 1)
    return [
        answer(judged, at, [doc_ids[position] for position in places], values.tolist(), depth)
        for at, (places, values) in enumerate(zip(positions, scores, strict=True))
    ]
