"""`hone selftest`: what `helm test` runs inside the cluster, one pod per part that must answer."""

import os
import uuid
from collections.abc import Iterator
from typing import Any, cast

from hone.errors import TransientError, UserError
from hone.kubeflow.platform import connect
from hone.kubeflow.preflight import Needs, missing_gpus
from hone.storage.addresses import open_store


def checks(host: str, namespace: str, store: str, queue: str, needs: Needs) -> Iterator[tuple[str, str]]:
    """What was tried, and what is wrong with it (nothing if it is all right); only what was asked for is tried."""
    if host:
        yield f"Kubeflow Pipelines at {host} lets this account in", _platform(host, namespace)
    if store:
        yield f"{store} returns what was written", _round_trip(store)
    if needs.gpus:
        yield f"{needs.gpus} GPU of {needs.gpu_gib} GiB", missing_gpus(needs)
    if queue:
        yield f"the queue {queue} admits", _queue(queue, namespace)


def _platform(host: str, namespace: str) -> str:
    from kfp_server_api import ApiException
    from urllib3.exceptions import HTTPError

    try:
        connect(host).list_experiments(page_size=1, namespace=namespace or None)
    except TransientError as error:
        return str(error)
    except HTTPError:
        return f"{host} does not answer; correct kubeflow.host, or let the NetworkPolicy through to it"
    except ApiException as error:
        return f"{host} answers {error.status} {error.reason}; give the submitter's account the rights of its Role"
    return ""


def _round_trip(address: str) -> str:
    folder, data = f"selftest-{uuid.uuid4().hex}", uuid.uuid4().bytes
    try:
        store = open_store(address)
        store.check_writable()
        store.create(f"{folder}/probe", data)
        same = store.read(f"{folder}/probe") == data
        for written in store.objects(folder):
            store.delete(written)
    except (UserError, TransientError) as error:
        return str(error)
    return "" if same else f"{address} returned something other than what was written"


def _queue(queue: str, namespace: str) -> str:
    """A LocalQueue says in its condition Active whether its ClusterQueue takes anything."""
    from kubernetes import client, config

    inside = "KUBERNETES_SERVICE_HOST" in os.environ
    try:
        config.load_incluster_config() if inside else config.load_kube_config()
        local_queue: Any = _local_queue(queue, namespace)
    except client.ApiException as error:
        return f"the LocalQueue {queue} in {namespace}: {error.status} {error.reason}; set kueue.localQueue"
    conditions = cast(list[dict[str, str]], local_queue.get("status", {}).get("conditions", []))
    active = [condition for condition in conditions if condition["type"] == "Active"]
    if active and active[0]["status"] == "True":
        return ""
    why = active[0].get("message", "") if active else "Kueue has not looked at it"
    return f"the LocalQueue {queue} is not active: {why}"


def _local_queue(queue: str, namespace: str) -> Any:
    """The LocalQueue in the newest version that the cluster serves: Kueue deprecates v1beta1."""
    from kubernetes import client

    ask = client.CustomObjectsApi().get_namespaced_custom_object
    try:
        return ask("kueue.x-k8s.io", "v1beta2", namespace, "localqueues", queue)
    except client.ApiException as error:
        if error.status != 404:
            raise
    return ask("kueue.x-k8s.io", "v1beta1", namespace, "localqueues", queue)
