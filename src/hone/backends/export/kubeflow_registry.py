"""Kubeflow's Model Registry: a version that points at the model in the store."""

from typing import Any

from hone.backends import library
from hone.backends.export.settings import ModelRegistry, Parcel
from hone.errors import TransientError, UserError

FORMAT, FORMAT_VERSION = "sentence-transformers", "1"
AUTHOR = "hone"


def push(settings: ModelRegistry, parcel: Parcel) -> str:
    """Registers a version once; the same again changes nothing, or adds what a push that was cut off left out.

    Returns the model's address in the store.

    Raises UserError if the registry refuses, TransientError if it cannot be reached.
    """
    client = library("model_registry", settings.extra)
    import aiohttp
    from mr_openapi.exceptions import ApiException

    name = f"publish.model_registry: {settings.url}"
    try:
        _register(client.ModelRegistry(settings.url, author=AUTHOR), parcel)
    except aiohttp.ClientError as error:
        raise TransientError(f"{name} cannot be reached ({error}); run again") from error
    except ApiException as error:
        kind = TransientError if (error.status or 500) >= 500 else UserError
        raise kind(f"{name} answers {error.status} {error.reason}; check the address and run again") from error
    return parcel.address


def _register(registry: Any, parcel: Parcel) -> None:
    """Registered model, version and artifact are three calls: whatever is missing of them is made."""
    release = parcel.release
    form = {"model_format_name": FORMAT, "model_format_version": FORMAT_VERSION}
    known = registry.get_registered_model(release.domain)
    version = registry.get_model_version(release.domain, release.version) if known else None
    if not version:
        registry.register_model(
            release.domain,
            parcel.address,
            version=release.version,
            version_description=release.finding,
            metadata={**parcel.figures, "model_sha256": release.model},
            **form,
        )
    elif not registry.get_model_artifact(release.domain, release.version):
        # The client has no public call for an artifact alone.
        registry.async_runner(registry._register_model_artifact(version, release.domain, parcel.address, **form))
