"""The slow twin of training's loss: float64, one text and one list place at a time, nothing shared, nothing cached.

Also what `torchrun` starts in a test: `twin.py FOLDER OUT` writes the losses and gradients of this process.
"""

import math
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from hone.backends.distributed import processes
from hone.backends.encoders.encoder import Encoder
from hone.backends.encoders.families import Student
from hone.backends.training.batches import Example, make_batch
from hone.backends.training.embedders import WholeModel
from hone.backends.training.gradients import Gradients
from hone.backends.training.settings import LossSettings

WORDS = ["heat", "flow", "wing", "slip", "stream", "shock", "wave", "study", "plate", "edge", "layer", "jet", "cone"]
Numbered = list[tuple[int, Tensor]]
"""Passages with their vectors."""
LOSSES = {
    "KL": LossSettings(infonce_weight=0.0),
    "KL + InfoNCE": LossSettings(),
    "InfoNCE": LossSettings(kl_weight=0.0, infonce_weight=1.0),
    "MarginMSE": LossSettings(kl_weight=0.0, infonce_weight=0.0, margin_mse_weight=1.0),
    "KL + anchor": LossSettings(infonce_weight=0.0, anchor_weight=0.5),
}


def encoder(folder: Path) -> Encoder:
    return Encoder(folder, Student(model=str(folder)))


def texts(count: int, seed: int = 0, longest: int = 12) -> list[str]:
    random = np.random.default_rng(seed)
    return [" ".join(random.choice(WORDS, random.integers(1, longest + 1))) for _ in range(count)]


def lists(queries: int, docs: int, longest: int = 5, seed: int = 0) -> list[Example]:
    """Lists of random length over passages 0..docs-1; the queries are the texts after them."""
    random = np.random.default_rng(seed)
    made: list[Example] = []
    for number in range(queries):
        size = int(random.integers(1, min(longest, docs) + 1))
        scores = np.sort(random.random(size).astype(np.float32))[::-1]
        likely = random.integers(0, docs, size=random.integers(0, 4))  # in no list, in others' lists or in its own
        made.append(Example(docs + number, random.permutation(docs)[:size], scores.copy(), tuple(likely.tolist())))
    return made


def slow_loss(student: Encoder, tokens: Sequence[list[int]], examples: Sequence[Example], loss: LossSettings) -> Tensor:
    """The mean over the lists, as the recipe writes it down. The student's weights must be float64."""
    queries = [slow_vector(student, tokens[example.query]) for example in examples]
    places = [[(int(number), slow_vector(student, tokens[number])) for number in e.passages] for e in examples]
    total = torch.zeros((), dtype=torch.float64)
    for example, query, own in zip(examples, queries, places, strict=True):
        cosines = [query @ vector for _, vector in own]
        scores = [float(score) for score in example.scores]
        total = total + loss.kl_weight * slow_kl(cosines, scores, loss)
        batch = [passage for row in places for passage in row if passage[0] not in example.likely]
        total = total + loss.infonce_weight * slow_infonce(query, own, scores, batch, loss)
        total = total + loss.margin_mse_weight * slow_margin_mse(cosines, scores)
    return total / len(examples) + loss.anchor_weight * slow_anchor(student, tokens, examples)


def slow_anchor(student: Encoder, tokens: Sequence[list[int]], examples: Sequence[Example]) -> Tensor:
    """The mean distance from its anchor of each text of the batch, every text once."""
    numbers = sorted({int(number) for example in examples for number in [example.query, *example.passages]})
    held = [1 - slow_vector(student, tokens[number]) @ anchors(len(tokens))[number].double() for number in numbers]
    return sum(held, torch.zeros((), dtype=torch.float64)) / len(held)


def anchors(count: int, dim: int = 32) -> Tensor:
    """[n, d] unit vectors as if of another student."""
    return torch.nn.functional.normalize(torch.randn(count, dim, generator=torch.Generator().manual_seed(3)), dim=-1)


def slow_kl(cosines: list[Tensor], scores: list[float], loss: LossSettings) -> Tensor:
    teacher = [math.exp(score / loss.teacher_tau) for score in scores]
    student = [torch.exp(cosine / loss.student_tau) for cosine in cosines]
    value = torch.zeros((), dtype=torch.float64)
    for t, s in zip(teacher, student, strict=True):
        share = t / sum(teacher)
        value = value + share * (math.log(share) - torch.log(s / sum(student)))
    return value


def slow_infonce(
    query: Tensor,
    own: list[tuple[int, Tensor]],
    scores: list[float],
    batch: list[tuple[int, Tensor]],
    loss: LossSettings,
) -> Tensor:
    """The negatives are the passages of all lists (here without what is likely an answer), each once, without the
    positive and what may be relevant."""
    relevant = {number for (number, _), score in zip(own, scores, strict=True) if score > loss.mask_share * max(scores)}
    positive = torch.exp(query @ own[0][1] / loss.infonce_tau)
    negatives = {number: vector for number, vector in batch if number not in relevant and number != own[0][0]}
    others = [torch.exp(query @ vector / loss.infonce_tau) for vector in negatives.values()]
    return -torch.log(positive / (positive + sum(others)))


def slow_margin_mse(cosines: list[Tensor], scores: list[float]) -> Tensor:
    errors = [(cosines[0] - cosines[at] - (scores[0] - scores[at])) ** 2 for at in range(1, len(cosines))]
    return sum(errors, torch.zeros((), dtype=torch.float64)) / max(1, len(errors))


def slow_vector(student: Encoder, ids: list[int]) -> Tensor:
    """Mean pooling of one text."""
    hidden = student.model(input_ids=torch.tensor([ids])).last_hidden_state[0]
    vector = hidden.mean(0)
    return vector / vector.norm()


def fast(folder: Path, out: Path) -> None:
    """Losses and gradients of every loss as training computes them, in this process of possibly several."""
    with processes.joined():
        student = encoder(folder)
        embedder = WholeModel(student, student.tokenize_docs(texts(30)))
        found: dict[str, Tensor] = {}
        for name, loss in LOSSES.items():
            held = anchors(len(embedder.lengths)) if loss.anchor_weight else None
            figures = Gradients(embedder, loss, 40, 2e5, held).of(make_batch(lists(10, 20), student.device))
            found[name] = torch.tensor(figures["loss"], dtype=torch.float64)
            for number, weight in enumerate(embedder.weights):
                found[f"{name}/{number}"] = torch.zeros_like(weight) if weight.grad is None else weight.grad
            student.model.zero_grad()
        save_file(found, out / f"{processes.rank()}.safetensors")


if __name__ == "__main__":
    fast(Path(sys.argv[1]), Path(sys.argv[2]))
