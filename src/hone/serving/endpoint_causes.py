"""Why served vectors differ from those of the model here: the usual causes, each tried on the texts that differ."""

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hone.backends import encoders
from hone.serving.embedding_endpoint import Prompts

EXPLAINED = 24
"""Texts on which causes are tried: those that differ most."""
LIMITS = (16, 32, 64, 128, 256, 384, 512, 1024, 2048, 8192)
"""Tokens at which servers are set to cut."""
POOLINGS = ("mean", "cls", "last", "max")
NEAR = 0.05
"""A distance up to which vectors differ as rounding makes them."""
MOST_CAUSES = 3
OF_UNIT_LENGTH = 0.01
"""How far from 1 a length may be."""


@dataclass(frozen=True)
class Side:
    """Texts of one role: as served, and as the tuned model gives them here."""

    role: str
    texts: list[str]
    served: np.ndarray
    local: np.ndarray

    @property
    def distances(self) -> np.ndarray:
        """1 - cosine [n]; 2 where the vectors cannot be compared."""
        return distances(self.served, self.local)

    @property
    def lengths(self) -> tuple[float, float]:
        """Mean length of the served vectors and of the model's."""
        served, local = (float(np.linalg.norm(vectors, axis=1).mean()) for vectors in (self.served, self.local))
        return served, local


@dataclass(frozen=True)
class Cause:
    """What explains a difference, and what to do about it."""

    kind: str
    says: str
    remedy: str


@dataclass(frozen=True)
class Change:
    """A cause that can be tried: the encoder as it would be if that were so."""

    cause: Cause
    make: Callable[["encoders.Encoder"], "encoders.Encoder"]


def distances(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """1 - cosine of two [n, d] arrays, row by row; 2 where their dimensions differ."""
    if one.shape != other.shape:
        return np.full(len(one), 2.0)
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    products = np.einsum("nd,nd->n", one.astype(np.float64), other.astype(np.float64))
    return 1 - products / np.maximum(lengths, 1e-12)


def encoded(encoder: "encoders.Encoder", role: str, texts: Sequence[str]) -> np.ndarray:
    """[n, d] vectors of texts by the model here."""
    return encoder.queries(texts) if role == "query" else encoder.docs(texts)


def prefix_of(encoder: "encoders.Encoder", role: str) -> str:
    """What the model wants before texts of a role."""
    return encoder.query_prefix if role == "query" else encoder.doc_prefix


def of_length(side: Side, encoder: "encoders.Encoder") -> Iterator[Cause]:
    """What is wrong with the length of vectors that are compared by their dot product."""
    served, local = side.lengths
    if side.served.shape != side.local.shape:
        return
    if encoder.declared.normalize and abs(served - 1) > OF_UNIT_LENGTH:
        yield Cause(
            "normalisation",
            "vectors are not of length 1, as the model makes them",
            "have the server normalise them, or let the index compare by cosine",
        )
    if not encoder.unit and abs(served / max(local, 1e-12) - 1) > OF_UNIT_LENGTH:
        yield Cause(
            "normalisation",
            "vectors have other lengths, and this model is compared by the dot product",
            "have the server not normalise them",
        )


def explained(
    side: Side,
    encoder: "encoders.Encoder",
    prompts: Prompts,
    base: Callable[[], "encoders.Encoder"],
    tolerance: float,
) -> list[Cause]:
    """The changes that turn the tuned model's vectors into those served, one upon another while each brings them much
    nearer; empty if nothing differs."""
    worst = np.argsort(-side.distances, kind="stable")[:EXPLAINED]
    texts, served = [side.texts[at] for at in worst], side.served[worst]
    far = float(side.distances[worst].max())
    if far <= tolerance:
        return []
    causes: list[Cause] = []
    left = [*_cut_vectors(served, encoder), *_changes(encoder, side.role, prompts, base)]
    now, mean = encoder, float(side.distances[worst].mean())
    while left and far > tolerance and len(causes) < MOST_CAUSES:
        tried: list[tuple[float, float, Change]] = []
        for change in left:
            apart = distances(served, _comparable(encoded(change.make(now), side.role, texts), served))
            tried.append((float(apart.mean()), float(apart.max()), change))
        best = min(tried, key=lambda row: row[0])
        if best[0] > mean / 2:
            break
        mean, far, now = best[0], best[1], best[2].make(now)
        causes.append(best[2].cause)
        left = [change for change in left if change.cause.kind != best[2].cause.kind]
    if far <= tolerance:
        return causes
    if not causes and float(side.distances[worst].max()) <= NEAR:
        return [_rounded(side.served)]
    return [*causes, _unknown()] if not causes or mean > NEAR else causes


def _rounded(served: np.ndarray) -> Cause:
    whole = bool((served == np.rint(served)).all())
    what = "whole numbers (int8 or binary)" if whole else "a lower precision (bf16, fp16 or int8)"
    return Cause(
        "precision",
        f"vectors are near those measured, as {what} make them",
        "serve the model in float32 or float16 and send float vectors",
    )


def _unknown() -> Cause:
    return Cause(
        "unknown",
        "none of the usual causes explains what differs",
        "see that the server loaded this run's model folder, all of it",
    )


def _comparable(local: np.ndarray, served: np.ndarray) -> np.ndarray:
    """Vectors as long as those served, if these are their first numbers."""
    return local[:, : served.shape[1]] if local.shape[1] > served.shape[1] else local


def _changes(
    encoder: "encoders.Encoder", role: str, prompts: Prompts, base: Callable[[], "encoders.Encoder"]
) -> Iterator[Change]:
    """What may have gone wrong, one change for each. A change is made upon those that were found before it."""
    yield from _of_prompts(encoder, role, prompts)
    yield from _of_pooling(encoder)
    if encoder.head is not None:
        yield Change(
            Cause(
                "layer",
                "the Dense layer after pooling is left out (or the base model is served)",
                "serve the whole folder with a server that reads modules.json",
            ),
            lambda now: _with(now, head=None),
        )
    loaded: list[encoders.Encoder] = []

    def untrained(now: "encoders.Encoder") -> "encoders.Encoder":
        loaded.extend([] if loaded else [base()])
        same = {name: getattr(now, name) for name in ("query_prefix", "doc_prefix", "pooling")}
        return _with(loaded[0], **same, student=now.student, longest=min(now.longest, loaded[0].longest))

    yield Change(
        Cause("model", "it serves the base model, not the tuned one", "load this run's model folder"), untrained
    )
    yield from _of_limits(encoder, role)


def _of_prompts(encoder: "encoders.Encoder", role: str, prompts: Prompts) -> Iterator[Change]:
    own, side = prefix_of(encoder, role), "query_prefix" if role == "query" else "doc_prefix"
    other = prefix_of(encoder, "document" if role == "query" else "query")
    who = {
        "client": "was sent: find what removes it on the way",
        "server": "must be configured at the server, or come with the text (--prompts client)",
        "name": "comes with prompt_name only if config_sentence_transformers.json lies in the served folder",
    }[prompts]
    elsewhere = "see which prompt the server uses by default"
    rows = [
        ("", f"the prompt {own!r} is missing", f"the prompt {who}"),
        (own + own, f"the prompt {own!r} is there twice", "let either the client or the server put it there"),
        (other + own, f"the prompt {other!r} also precedes the text", elsewhere),
        (other, f"the prompt {other!r} is there instead of {own!r}", elsewhere),
    ]
    seen = {own}
    for prefix, says, remedy in rows:
        if prefix not in seen:
            seen.add(prefix)
            yield Change(Cause("prompt", says, remedy), lambda now, prefix=prefix: _with(now, **{side: prefix}))


def _of_pooling(encoder: "encoders.Encoder") -> Iterator[Change]:
    if "+" in encoder.pooling:
        return
    for way in POOLINGS:
        if way != encoder.pooling:
            cause = Cause(
                "pooling",
                f"token vectors are pooled by {way} instead of {encoder.pooling}",
                f"start the server with {encoder.pooling} pooling, or with the folder's 1_Pooling",
            )
            yield Change(cause, lambda now, way=way: _with(now, pooling=way))


def _of_limits(encoder: "encoders.Encoder", role: str) -> Iterator[Change]:
    own = encoder.query_limit if role == "query" else encoder.doc_limit()
    most = getattr(encoder.model.config, "max_position_embeddings", None) or LIMITS[-1]
    for limit in LIMITS:
        if limit != own and limit <= most:
            cause = Cause(
                "truncation",
                f"texts are cut at {limit:,} tokens instead of {own:,}",
                f"set the server's limit, or cut the texts before they are sent, at {own:,} tokens",
            )
            student = encoder.student.model_copy(update={"max_query_tokens": limit, "max_doc_tokens": limit})
            yield Change(cause, lambda now, at=limit, cut=student: _with(now, student=cut, longest=at))


def _cut_vectors(served: np.ndarray, encoder: "encoders.Encoder") -> Iterator[Change]:
    if served.shape[1] < encoder.dimension:
        cause = Cause(
            "dimension",
            f"vectors have {served.shape[1]:,} numbers instead of {encoder.dimension:,}",
            "ask for all of them: leave out `dimensions` in requests and in the server's settings",
        )
        yield Change(cause, lambda now: now)


def _with(encoder: "encoders.Encoder", **changed: Any) -> "encoders.Encoder":
    """The same encoder with some of what it puts before texts, cuts or pools changed; weights are shared."""
    other = copy.copy(encoder)
    for name, value in changed.items():
        setattr(other, name, value)
    return other
