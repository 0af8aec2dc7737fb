"""Kubeflow Pipelines as a client sees it: signing in, and its refusals as one sentence each.

What is relied on was read in the source of its API server and client, 2.16 and 2.17.
"""

import json
import os
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

from hone.errors import TransientError, UserError
from hone.secrets import without_secrets

if TYPE_CHECKING:
    from kfp import Client

TOKEN_PATH = "KF_PIPELINES_SA_TOKEN_PATH"
SYSTEM_NAMESPACE = "kubeflow"
LONGEST_ANSWER = 300
RIGHTS = {
    401: f"it requires a token: give the file that holds one in {TOKEN_PATH}, see docs/kubernetes.md",
    403: "give the account that submits the rights of the chart's Role, and name its namespace with --namespace",
    404: "it is not there, or --host is not the address of the Kubeflow Pipelines API",
    409: "the name is taken; run the command again, which looks for it first",
    413: "what was sent is too large; put the settings at an s3:// address",
}
PASSING = (408, 425, 429)


def connect(host: str, system_namespace: str = SYSTEM_NAMESPACE) -> "Client":
    """A client of the platform's API, which without a host is the service of this cluster in `system_namespace`; the
    namespace of runs is another matter. Raises TransientError if it does not answer."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from kfp import Client
        from kfp.client.set_volume_credentials import ServiceAccountTokenVolumeCredentials

        # Given a host, the client looks for no token by itself.
        mounted = ServiceAccountTokenVolumeCredentials() if os.environ.get(TOKEN_PATH) else None
        try:
            return Client(host=host or None, namespace=system_namespace, credentials=mounted)
        except Exception as error:
            raise TransientError(f"Kubeflow Pipelines at {host or 'the cluster'} does not answer: {error}") from error


@contextmanager
def asking(what: str) -> Generator[None]:
    """Turns what the platform answers to a request into one sentence. Raises UserError and TransientError."""
    from kfp_server_api import ApiException
    from urllib3.exceptions import HTTPError

    try:
        yield
    except ApiException as error:
        raise refusal(what, int(error.status or 0), str(error.reason or ""), error.body) from error
    except HTTPError as error:
        raise TransientError(f"Kubeflow Pipelines does not answer ({what}): {type(error).__name__}") from error


def refusal(what: str, status: int, reason: str, body: object) -> UserError | TransientError:
    """What the platform refused, in one sentence: a mistake of the user, or a fault that may pass."""
    said = _said(body)
    sentence = f"Kubeflow Pipelines answers {status} {reason} to {what}{': ' + said if said else ''}".rstrip(". ")
    if status in PASSING or status >= 500 or not status:
        return TransientError(f"{sentence}; try again")
    return UserError(f"{sentence}; {RIGHTS.get(status, 'correct what it names, and submit again')}")


def _said(body: object) -> str:
    """The platform's own words, on one line and without what may be secret in them."""
    text = body.decode(errors="replace") if isinstance(body, bytes) else str(body or "")
    try:
        answer: Any = json.loads(text)
    except ValueError:
        answer = text
    if isinstance(answer, dict):
        fields = cast(dict[str, Any], answer)
        answer = fields.get("error_message") or fields.get("error") or fields.get("message") or ""
    line = " ".join(str(answer).split())
    line = "" if line.startswith("<") else line  # a page of a proxy
    return without_secrets(line)[:LONGEST_ANSWER]
