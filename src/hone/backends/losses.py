"""The training losses, each a pure function of similarities. Source: arXiv 2502.19712, section 3, and its scripts."""

import torch
from torch import Tensor
from torch.nn.functional import kl_div, log_softmax, softmax


def listwise_kl(cosines: Tensor, teacher: Tensor, mask: Tensor, student_tau: float, teacher_tau: float) -> Tensor:
    """KL(softmax(teacher / teacher_tau) || softmax(cosine / student_tau)), mean over queries.

    cosines, teacher [q, l] float; mask [q, l] bool, False where a list is shorter than l. Not multiplied by a
    temperature squared: that would change its weight beside the other loss.
    """
    off = torch.finfo(cosines.dtype).min
    student = log_softmax((cosines / student_tau).masked_fill(~mask, off), dim=-1)
    target = softmax((teacher / teacher_tau).masked_fill(~mask, off), dim=-1)
    return kl_div(student, target, reduction="none").masked_fill(~mask, 0.0).sum(-1).mean()


def masked_infonce(similarities: Tensor, positive: Tensor, excluded: Tensor, tau: float) -> Tensor:
    """InfoNCE over every passage of the batch, mean over queries.

    similarities [q, p] of each query with each listed passage; positive [q] the column of its positive;
    excluded [q, p] bool: passages that may be relevant, which are no negatives. The positive itself always counts.
    """
    rows = torch.arange(len(similarities), device=similarities.device)
    excluded = excluded.clone()
    excluded[rows, positive] = False
    logits = (similarities / tau).masked_fill(excluded, torch.finfo(similarities.dtype).min)
    return -log_softmax(logits, dim=-1)[rows, positive].mean()


def likely_relevant(slots: Tensor, teacher: Tensor, mask: Tensor, passages: int, share: float) -> Tensor:
    """[q, p] bool: passages of a query's own list that the teacher scores above `share` of its top score.

    slots [q, l] int64: the passage of each list place; teacher [q, l] >= 0; mask [q, l] bool.
    """
    top = teacher.masked_fill(~mask, 0.0).amax(dim=-1, keepdim=True)
    rows, places = torch.nonzero(mask & (teacher > share * top), as_tuple=True)
    excluded = torch.zeros(len(slots), passages, dtype=torch.bool, device=slots.device)
    excluded[rows, slots[rows, places]] = True
    return excluded
