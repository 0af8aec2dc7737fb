"""How many steps a training takes, and the learning rate of each. Source: arXiv 2502.19712 and its scripts."""


def batch_size(lists: int, wanted: int, min_steps: int) -> int:
    """The lists of one step: as wanted, but few enough that an epoch of a small corpus has `min_steps` steps."""
    return max(1, min(wanted, lists // max(1, min_steps)))


def steps_per_epoch(lists: int, batch: int) -> int:
    """Steps that see every list once; the last may be smaller."""
    return -(-lists // batch)


def warmup_steps(epoch_steps: int, least: int, total: int) -> int:
    """max(least, half an epoch), but never more than half of all steps."""
    return min(max(least, epoch_steps // 2), max(1, total // 2))


def rate_factor(step: int, warmup: int, total: int, floor: float = 0.1) -> float:
    """The share of the peak learning rate at a step (0-based): linear warm-up, then linear decay to `floor`."""
    if step < warmup:
        return (step + 1) / warmup
    return max(floor, 1.0 - (1.0 - floor) * (step - warmup) / max(1, total - warmup))
