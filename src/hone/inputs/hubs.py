"""Corpora and models of a Hugging Face hub by their id, at the one commit that a revision means.

`hf://datasets/OWNER/NAME` is a corpus and `hf://OWNER/NAME` a model, either with `@REVISION`: a branch, a tag, or a
commit, which is then never asked for again. Files lie in the hub's own cache (HF_HOME), as `hf download` leaves them.
"""

import re
from functools import cache
from pathlib import Path

from hone.errors import UserError
from hone.log import log

SCHEME = "hf://"
ADDRESS = re.compile(r"hf://(?P<kind>datasets/|models/)?(?P<id>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w.][\w./-]*))?")
COMMIT = re.compile(r"[0-9a-f]{40}")
LEFT_OUT = ("*.py", "*.bin", "*.pt", "*.pth", "*.pkl", "*.ckpt", "*.h5", "*.msgpack", "*.onnx", "onnx/*", "openvino/*")
"""Code, and weights that are not safetensors: never fetched."""
FETCHES = 4


@cache
def download(reference: str) -> Path:
    """The folder of what `reference` names, downloaded unless it is here; in one process always the same commit.

    Raises UserError if the hub has it not, or cannot be reached and it was not fetched whole before.
    """
    address = ADDRESS.fullmatch(reference)
    if not address:
        raise UserError(f"{reference!r} is not a valid hub address; write hf://datasets/OWNER/NAME or hf://OWNER/NAME")
    import huggingface_hub
    from huggingface_hub.errors import HTTPError, RepositoryNotFoundError, RevisionNotFoundError

    name, kind, revision = address["id"], "dataset" if address["kind"] == "datasets/" else "model", address["revision"]
    pinned = bool(revision and COMMIT.fullmatch(revision))
    here = _here(name, kind, revision)
    if here and pinned:
        return here
    try:
        # Asked by itself: the download takes what is here without a word where the hub does not answer.
        huggingface_hub.HfApi().repo_info(name, repo_type=kind, revision=revision)
        folder = huggingface_hub.snapshot_download(
            name, repo_type=kind, revision=revision, ignore_patterns=[*LEFT_OUT], max_workers=FETCHES
        )
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise UserError(
            f"the hub has no {reference}, or your HF_TOKEN may not read it; correct the settings"
        ) from error
    except (HTTPError, OSError) as error:
        if getattr(error, "errno", None) is not None:  # a full disk, say
            raise
        if not here:
            raise UserError(
                f"{reference} has not been downloaded, and the hub cannot be reached ({type(error).__name__}); on a "
                f"machine that reaches it run {_command(name, kind, revision)}, and give that folder in the settings"
            ) from error
        log.warning("hub unreachable: using the copy fetched last", reference=reference, commit=commit_of(here))
        return here
    return Path(folder)


def commit_of(folder: Path) -> str:
    """The commit that a folder of the hub's cache holds."""
    return folder.name


def _here(name: str, kind: str, revision: str | None) -> Path | None:
    """What was fetched earlier, if all of it was: the hub's cache keeps a list of what there is."""
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = huggingface_hub.snapshot_download(
            name, repo_type=kind, revision=revision, ignore_patterns=[*LEFT_OUT], local_files_only=True
        )
    except LocalEntryNotFoundError:
        return None
    return Path(folder)


def _command(name: str, kind: str, revision: str | None) -> str:
    of_kind, at = " --repo-type dataset" * (kind == "dataset"), f" --revision {revision}" if revision else ""
    return f"hf download {name}{of_kind}{at} --local-dir {name.partition('/')[2]}"
