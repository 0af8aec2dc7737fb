"""Temporary folders that go with the process that made them, however it ended.

Each holds a file that its process keeps locked for as long as it lives. A folder whose lock is free was left by a
killed process, and the next one that needs a folder removes it.
"""

import errno
import fcntl
import os
import platform
import shutil
import tempfile
from collections.abc import Generator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from hone.errors import UserError
from hone.log import log

PREFIX = "hone-"
OWNER = ".owner"
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def scratch_folder() -> Generator[Path]:
    """A temporary folder, removed afterwards. Raises UserError if its disk is full or somebody else removed it."""
    with suppress(OSError):
        _sweep(tempfile.gettempdir())
    try:
        made = tempfile.TemporaryDirectory(prefix=PREFIX, ignore_cleanup_errors=True)
    except OSError as error:
        raise UserError(f"cannot make a scratch folder ({error}); set TMPDIR to a folder with free space") from error
    with made as name:
        folder = Path(name)
        try:
            with disk_full_in_one_sentence(folder), _owned(folder):
                yield folder
        except FileNotFoundError as error:
            if folder.exists():
                raise
            gone = f"the scratch folder {folder} was removed while it was in use"
            raise UserError(f"{gone}; set TMPDIR to a folder that nothing else cleans, and run again") from error


@contextmanager
def disk_full_in_one_sentence(folder: Path) -> Generator[None]:
    """Turns a full disk into one sentence. Raises UserError."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise UserError(f"the disk is full ({error.filename or folder}); free space and run again") from error


@contextmanager
def _owned(folder: Path) -> Generator[None]:
    """Holds the lock of a folder. The file gets its name only when it is locked: no sweep sees it free."""
    with (folder / f"{OWNER}-new").open("w") as file:
        with suppress(OSError):  # a file system without locks: the folder is then never swept
            fcntl.flock(file, fcntl.LOCK_EX)
            file.write(platform.node())
            file.flush()
            os.rename(file.name, folder / OWNER)
        yield


@cache
def _sweep(place: str) -> None:
    """Removes what killed processes of this machine left, once per process."""
    for owner in sorted(Path(place).glob(f"{PREFIX}*/{OWNER}")):
        with suppress(OSError), owner.open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if file.read() == platform.node():
                shutil.rmtree(owner.parent, ignore_errors=True)
                log.info("swept", folder=str(owner.parent))
