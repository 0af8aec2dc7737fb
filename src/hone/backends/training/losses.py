"""The training losses, each a pure function of similarities. Source: arXiv 2502.19712, section 3, and its scripts.

Every function gives one value per query, so that a batch can be cut by queries; the loss of a batch is the mean.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import kl_div, log_softmax, softmax

from hone.backends.training.settings import LossSettings


@dataclass(frozen=True)
class Lists:
    """What the student and the teacher say of some of a batch's queries.

    similarities [q, p] float: cosine of each query with each distinct passage of the batch;
    slots [q, l] int64: the passage (column) of each list place, the first is the positive;
    teacher [q, l] float in [0, 1]; mask [q, l] bool: False where a list is shorter than l;
    likely [q, m] int64: passages that are not negatives, whether its list holds them or not; -1 fills up.
    """

    similarities: Tensor
    slots: Tensor
    teacher: Tensor
    mask: Tensor
    likely: Tensor

    @property
    def cosines(self) -> Tensor:
        """[q, l]: the similarities of the list places."""
        return self.similarities.gather(1, self.slots)


def kl(lists: Lists, settings: LossSettings) -> Tensor:
    """[q]: listwise distillation."""
    return listwise_kl(lists.cosines, lists.teacher, lists.mask, settings.student_tau, settings.teacher_tau)


def infonce(lists: Lists, settings: LossSettings) -> Tensor:
    """[q]: InfoNCE over the whole batch without what may be relevant."""
    excluded = likely_relevant(lists, settings.mask_share)
    return masked_infonce(lists.similarities, lists.slots[:, 0], excluded, settings.infonce_tau)


def margin_mse(lists: Lists, settings: LossSettings) -> Tensor:
    """[q]: mean squared difference of the margins between positive and negatives (arXiv 2010.02666)."""
    return margin_errors(lists.cosines, lists.teacher, lists.mask)


def anchor(vectors: Tensor, base: Tensor) -> Tensor:
    """[n]: 1 - cosine of unit vectors [n, d] with what the untrained student made of the same texts, [n, d]."""
    return 1.0 - (vectors * base).sum(-1)


TERMS: dict[str, Callable[[Lists, LossSettings], Tensor]] = {"kl": kl, "infonce": infonce, "margin_mse": margin_mse}
"""A term of the loss is a row; the setting NAME_weight weighs it."""


def names(settings: LossSettings) -> tuple[str, ...]:
    """The figures that `terms` gives."""
    weighed = (name for name in TERMS if _weight(settings, name) or name == "kl")
    return ("loss", *weighed)


def terms(lists: Lists, settings: LossSettings) -> dict[str, Tensor]:
    """Each term with a weight, and the listwise one in any case, plus `loss`, their weighted sum; all [q]."""
    values = {name: TERMS[name](lists, settings) for name in names(settings)[1:]}
    weighed = [_weight(settings, name) * value for name, value in values.items() if _weight(settings, name)]
    return {"loss": torch.stack(weighed).sum(0), **values}


def _weight(settings: LossSettings, name: str) -> float:
    return float(getattr(settings, f"{name}_weight"))


def listwise_kl(cosines: Tensor, teacher: Tensor, mask: Tensor, student_tau: float, teacher_tau: float) -> Tensor:
    """[q]: KL(softmax(teacher / teacher_tau) || softmax(cosine / student_tau)).

    cosines, teacher [q, l] float; mask [q, l] bool, False where a list is shorter than l. Not multiplied by a
    temperature squared: that would change its weight beside the other loss.
    """
    off = torch.finfo(cosines.dtype).min
    student = log_softmax((cosines / student_tau).masked_fill(~mask, off), dim=-1)
    target = softmax((teacher / teacher_tau).masked_fill(~mask, off), dim=-1)
    return kl_div(student, target, reduction="none").masked_fill(~mask, 0.0).sum(-1)


def masked_infonce(similarities: Tensor, positive: Tensor, excluded: Tensor, tau: float) -> Tensor:
    """[q]: InfoNCE over every passage of the batch.

    similarities [q, p] of each query with each listed passage; positive [q] the column of its positive;
    excluded [q, p] bool: passages that may be relevant, which are not negatives. The positive itself always counts.
    """
    rows = torch.arange(len(similarities), device=similarities.device)
    excluded = excluded.clone()
    excluded[rows, positive] = False
    logits = (similarities / tau).masked_fill(excluded, torch.finfo(similarities.dtype).min)
    return -log_softmax(logits, dim=-1)[rows, positive]


def margin_errors(cosines: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """[q]: mean over the negatives of ((cos+ - cos-) - (t+ - t-))^2; 0 for a list of one.

    cosines, teacher [q, l] float, the first place is the positive; mask [q, l] bool.
    """
    errors = (cosines[:, :1] - cosines) - (teacher[:, :1] - teacher)
    negatives = mask.clone()
    negatives[:, 0] = False
    return (errors.square() * negatives).sum(-1) / negatives.sum(-1).clamp(min=1)


def ndcg(lists: Lists, depth: int = 10) -> Tensor:
    """[q]: nDCG of the order that the student gives each list, with the teacher's scores as gains; 1 where all are 0.

    Gain / log2(rank + 1), as trec_eval. The student's ties are broken in the order of the list, which is the teacher's.
    """
    off = torch.finfo(lists.teacher.dtype).min
    order = lists.cosines.masked_fill(~lists.mask, off).argsort(dim=-1, descending=True, stable=True)
    gains = lists.teacher.masked_fill(~lists.mask, 0.0)
    ranks = torch.arange(2, min(depth, gains.shape[1]) + 2, device=gains.device)
    discounts = 1.0 / torch.log2(ranks.float())
    best = (gains.sort(dim=-1, descending=True).values[:, :depth] * discounts).sum(-1)
    gained = (gains.gather(1, order)[:, :depth] * discounts).sum(-1)
    return torch.where(best > 0, gained / best, torch.ones_like(best))


def likely_relevant(lists: Lists, share: float) -> Tensor:
    """[q, p] bool: what a query was made from, what was left out of its list as a likely answer, and the passages of
    its list that the teacher scores above `share` of its top score."""
    top = lists.teacher.masked_fill(~lists.mask, 0.0).amax(dim=-1, keepdim=True)
    rows, places = torch.nonzero(lists.mask & (lists.teacher > share * top), as_tuple=True)
    excluded = torch.zeros_like(lists.similarities, dtype=torch.bool)
    excluded[rows, lists.slots[rows, places]] = True
    rows, places = torch.nonzero(lists.likely >= 0, as_tuple=True)
    excluded[rows, lists.likely[rows, places]] = True
    return excluded
