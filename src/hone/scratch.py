"""Temporary folders that go with the process that made them, however it ended.

Each holds a file that its process keeps locked for as long as it lives. A folder whose lock is free was left by a
killed process, and the next one that needs a folder removes it. A process killed before it had the lock leaves an empty
folder, whose name says which process of which machine made it.
"""

import errno
import fcntl
import os
import platform
import re
import shutil
import tempfile
from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import cache
from pathlib import Path
from types import TracebackType

from hone.errors import TransientError, UserError
from hone.log import log

PREFIX = "hone-"
OWNER = ".owner"
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
FULL_IN_WORDS = re.compile(rf"\(os error ({'|'.join(map(str, FULL))})\)")


@contextmanager
def scratch_folder() -> Generator[Path]:
    """A temporary folder, removed afterwards. Raises UserError if its disk is full or somebody else removed it."""
    with suppress(OSError):
        _sweep(tempfile.gettempdir())
    try:
        made = tempfile.TemporaryDirectory(
            prefix=f"{PREFIX}{platform.node()}-{os.getpid()}-", ignore_cleanup_errors=True
        )
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


def disk_full_in_one_sentence(folder: Path) -> AbstractContextManager[None]:
    """Turns a full disk into one sentence: what was being written, or else `folder`. Raises UserError."""
    return _FullDisk(folder)


class _FullDisk(AbstractContextManager[None]):
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        named = getattr(error, "filename", None) if isinstance(error, OSError) else None
        if _is_full_disk(error):
            raise UserError(f"the disk is full ({named or self.folder}); free space and run again") from error


def _is_full_disk(error: BaseException | None) -> bool:
    if isinstance(error, (UserError, TransientError)):
        return False
    # safetensors and tokenizers raise errors of their own, which say the number in words.
    said = FULL_IN_WORDS.search(str(error)) if isinstance(error, Exception) else None
    return said is not None or (isinstance(error, OSError) and error.errno in FULL)


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
    here = f"{PREFIX}{platform.node()}-"
    for folder in sorted(Path(place).glob(f"{PREFIX}*")):
        maker = re.match(rf"{re.escape(here)}(\d+)-", folder.name)
        with suppress(OSError):  # what is not empty is not removed
            if maker and not _lives(int(maker[1])):
                (folder / f"{OWNER}-new").unlink(missing_ok=True)
                folder.rmdir()


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's
        return True
    return True
