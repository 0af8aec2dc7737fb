"""A model hub: the folder as one commit, tagged with the version."""

import os
from collections.abc import Generator
from contextlib import contextmanager

from hone.backends import library
from hone.backends.export.settings import Hub, Parcel
from hone.errors import TransientError, UserError


def push(settings: Hub, parcel: Parcel) -> str:
    """Uploads every file and tags the commit; files that are there already are not sent again.

    Returns the repository's address. Raises UserError if the hub refuses, TransientError if it cannot be reached.
    """
    hub = library("huggingface_hub", settings.extra)
    release = parcel.release
    api = hub.HfApi(endpoint=os.environ.get("HF_ENDPOINT"))
    with _online(), _in_one_sentence(settings.repository):
        made = api.create_repo(settings.repository, private=settings.private, exist_ok=True)
        message = f"{release.domain} {release.version}: {release.finding}"
        commit = api.upload_folder(repo_id=settings.repository, folder_path=parcel.folder, commit_message=message)
        api.create_tag(settings.repository, tag=release.version, revision=commit.oid, exist_ok=True)
    return str(made)


@contextmanager
def _online() -> Generator[None]:
    """Hone keeps the library offline, so that no model is ever fetched; this one push was asked for."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = False
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


@contextmanager
def _in_one_sentence(repository: str) -> Generator[None]:
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, HTTPError

    name = f"publish.hub: {repository}"
    try:
        yield
    except HFValidationError as error:
        raise UserError(f"{name}: {error}") from error
    except HfHubHTTPError as error:
        status = error.response.status_code
        kind = TransientError if status == 429 or status >= 500 else UserError
        raise kind(f"{name}: the hub answers {status}; check HF_ENDPOINT, HF_TOKEN and its rights") from error
    except HTTPError as error:
        raise TransientError(f"{name}: the hub cannot be reached ({error}); run again") from error
