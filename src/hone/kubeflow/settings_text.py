"""How a settings file travels to the tasks of a run: kept in the store, and named by address and digest.

The platform refuses a run whose parameters take more than 10,000 bytes (MAX_PARAMETER_BYTES of its API server), and
every task carries several copies of them in one object that etcd limits.
"""

import hashlib
import re
from contextlib import suppress
from pathlib import Path

from hone import settings
from hone.engine.garbage import SETTINGS
from hone.errors import TransientError, UserError
from hone.inputs.references import local_path
from hone.scratch import scratch_folder
from hone.settings import RunSettings
from hone.storage.addresses import is_remote
from hone.storage.base import Store
from hone.storage.leases import leased

ADDRESS = re.compile(r"(?P<reference>([a-z][a-z0-9+.-]*:/)?/\S+?)(@(?P<sha256>[0-9a-f]{64}))?")
LONGEST_PARAMETERS = 10_000
"""Bytes that the parameters of a run may take, as JSON."""
LONGEST_INLINE = 8_000
"""Bytes of a settings file that travels as a parameter itself: what is left for the others is plenty."""


def keep(store: Store, text: str) -> str:
    """Puts a settings file into the store and returns its address with its digest."""
    digest = hashlib.sha256(text.encode()).hexdigest()
    key = f"{SETTINGS}/{digest}.yaml"
    # Written anew if it is there: hone store gc goes by when a settings file was last used.
    with leased(store, [key]):
        store.replace(key, text.encode())
    return f"{store.place}/{key}@{digest}"


def renew(store: Store, given: str) -> None:
    """Notes that a task uses settings that lie in its store, so that hone store gc leaves them."""
    named = _address(given)
    start = f"{store.place}/"
    if named and named["reference"].startswith(f"{start}{SETTINGS}/"):
        key = named["reference"].removeprefix(start)
        # A store that cannot be written to is left to who can.
        with suppress(UserError, TransientError):
            if data := store.read(key):
                store.replace(key, data)


def is_address(text: str) -> bool:
    """Whether a settings parameter is an address and not the text itself."""
    return _address(text) is not None


def fetch(given: str) -> str:
    """The text of a settings file: itself, or what lies at its address. Raises UserError."""
    named = _address(given)
    if not named:
        return given
    with scratch_folder() as scratch:
        data = local_path(named["reference"], scratch).read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    if named["sha256"] and digest != named["sha256"]:
        declared = f"not the declared {named['sha256']}"
        raise UserError(f"{named['reference']} has the digest {digest}, {declared}; submit the settings again")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise UserError(f"{named['reference']} is not UTF-8 (byte {error.start}); save it as UTF-8") from error


def _address(text: str) -> re.Match[str] | None:
    parts = ADDRESS.fullmatch(text.strip())
    return parts if parts and (parts["reference"].startswith("/") or is_remote(parts["reference"])) else None


def check(text: str, name: str = "settings") -> RunSettings:
    """The settings, checked as the tasks will: paths are those of the cluster. Raises UserError."""
    return settings.check(settings.parse_yaml(text, name), name, Path("/"))
