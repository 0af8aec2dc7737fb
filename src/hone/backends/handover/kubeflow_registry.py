"""Kubeflow's Model Registry: a version that points at the model in the store."""

from hone.backends import library
from hone.core.handover import ModelRegistry, Parcel
from hone.errors import TransientError, UserError

FORMAT, FORMAT_VERSION = "sentence-transformers", "1"
AUTHOR = "hone"


def push(settings: ModelRegistry, parcel: Parcel) -> str:
    """Registers a version once; the same again changes nothing. Returns the model's address in the store.

    Raises UserError if the registry refuses, TransientError if it cannot be reached.
    """
    client = library("model_registry", settings.extra)
    import aiohttp
    from mr_openapi.exceptions import ApiException

    release, name = parcel.release, f"publish.model_registry: {settings.url}"
    try:
        registry = client.ModelRegistry(settings.url, author=AUTHOR)
        known = registry.get_registered_model(release.domain)
        if not known or not registry.get_model_version(release.domain, release.version):
            registry.register_model(
                release.domain,
                parcel.address,
                version=release.version,
                model_format_name=FORMAT,
                model_format_version=FORMAT_VERSION,
                version_description=release.finding,
                metadata={**parcel.figures, "model_sha256": release.model},
            )
    except aiohttp.ClientError as error:
        raise TransientError(f"{name} cannot be reached ({error}); run again") from error
    except ApiException as error:
        kind = TransientError if (error.status or 500) >= 500 else UserError
        raise kind(f"{name} answers {error.status} {error.reason}; check the address and run again") from error
    return parcel.address
