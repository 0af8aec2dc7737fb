"""How much memory training may take: of the GPU where there is one, and of the machine beside it."""

import os
from pathlib import Path

import torch

from hone.backends.distributed import processes

GIB = 1 << 30
SHARE_OF_FREE = 0.5
SHARE_OF_STATES = 0.5


def memory_limit(gb: float, device: torch.device) -> float:
    """Bytes that the activations of this process may take: as set, or its share of half of what is free now."""
    if gb:
        return gb * GIB
    on_gpu = device.type == "cuda"
    free = torch.cuda.mem_get_info(device)[0] if on_gpu else _free_memory() / processes.beside()
    return SHARE_OF_FREE * free


def states_limit(memory: float, device: torch.device) -> float:
    """Bytes of main memory in which states of frozen layers may be kept over all steps.

    On a CPU that is half of the `memory` that training may take, of which a step has the rest. A GPU's memory says
    nothing of the machine's: beside one it is this process's share of half of what is free there now.
    """
    if device.type == "cpu":
        return SHARE_OF_STATES * memory
    return memory_limit(0, torch.device("cpu"))


def _free_memory() -> float:
    """Bytes of main memory that can be had, within the container's limit."""
    if not Path("/proc/meminfo").is_file():
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    fields = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    free = int(fields["MemAvailable"].split()[0]) * 1024
    limit, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
    if limit.is_file() and (most := limit.read_text().strip()) != "max":
        return min(free, int(most) - int(used.read_text()))
    return free
