"""Temporary folders of a stage, and a full disk in one sentence."""

import errno
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from hone.errors import UserError


@contextmanager
def scratch_folder() -> Generator[Path]:
    """A temporary folder for one stage, removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="hone-") as folder:
        yield Path(folder)


@contextmanager
def disk_full_in_one_sentence(scratch: Path) -> Generator[None]:
    """Turns a full disk into one sentence. Raises UserError."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise UserError(f"the disk is full ({error.filename or scratch}); free space and run again") from error
        raise
