"""Several processes as one: what `torchrun` starts shares the work of a batch and holds the same weights.

Sums are over all processes and every process gets the same bits, so that all take the same decisions.
"""

import os
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from itertools import count as numbers
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from hone import launch

T = TypeVar("T")
PATIENCE = timedelta(minutes=60)
"""One process may do what only it does (saving) this long while the others wait."""
_GROUPS = numbers()


@contextmanager
def joined() -> Generator[None]:
    """Joins the processes of this launch for the time of a block, each with its own GPU where there are any."""
    if launch.processes() == 1:
        yield
        return
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    store, rank, size = _met()
    # Stages join one after the other: keys of an earlier group must not be taken for those of this one.
    store = dist.PrefixStore(f"group-{next(_GROUPS)}", store)
    dist.init_process_group("nccl" if on_gpu else "gloo", store=store, rank=rank, world_size=size, timeout=PATIENCE)
    try:
        yield
    finally:
        dist.destroy_process_group()


@cache
def _met() -> tuple[dist.Store, int, int]:
    """Where the processes of this launch find each other, this one's rank and how many they are."""
    return next(iter(dist.rendezvous("env://", timeout=PATIENCE)))


def count() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def beside() -> int:
    """Processes on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if dist.is_initialized() else 1


def wait() -> None:
    """Until every process is here."""
    dist.barrier()


def mine(work: Sequence[T]) -> Sequence[T]:
    """This process's share of a list of work: every n-th, so that work sorted by size is shared evenly."""
    return work[rank() :: count()]


def add_up(*tensors: Tensor) -> None:
    """Replaces tensors of one type by their sums over all processes."""
    if count() == 1:
        return
    flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
    dist.all_reduce(flat)
    for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(part.view_as(tensor))


def add_up_figures(figures: dict[str, float], device: torch.device) -> dict[str, float]:
    """The sums over all processes of figures with the same names."""
    values = torch.tensor(list(figures.values()), dtype=torch.float64, device=device)
    add_up(values)
    return dict(zip(figures, values.tolist(), strict=True))
