"""Several processes of one launch, as `torchrun` starts them: the first does what only one may do, the others help."""

import os


def processes() -> int:
    """How many were started together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """The number of this one among them."""
    return int(os.environ.get("RANK", "0"))


def is_helper() -> bool:
    """Whether this process is not the first: it writes nothing and says nothing."""
    return processes() > 1 and rank() != 0
