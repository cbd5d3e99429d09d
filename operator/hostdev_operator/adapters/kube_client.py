"""How this program talks to the API server: the client of lightkube, and its failures as ClusterError."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, TypeVar, cast

import httpx2
from lightkube import ApiError, AsyncClient, KubeConfig
from lightkube.config.client_adapter import verify_cluster
from lightkube.config.kubeconfig import SingleConfig
from lightkube.config.models import User

from ..ports import Body, ClusterError

T = TypeVar("T")

NOT_FOUND = 404
#: The API server itself closes connections that are idle for 90 s.
_KEPT_SECONDS = 60.0


def client(component: str) -> Any:
    """A client with connections of its own, to the API server that KUBECONFIG or the pod's service account names.

    ``component`` is the field manager. Untyped, since of lightkube's overloads none fits a kind that is chosen at run
    time.
    """
    config = KubeConfig.from_env().get()
    if config is None:
        raise ClusterError(0, "neither KUBECONFIG nor a pod's service account names an API server")
    return AsyncClient(config, transport=_transport(config), field_manager=component)


def _transport(config: SingleConfig) -> httpx2.AsyncHTTPTransport:
    """As lightkube makes it, but for connections that outlive a pause: a TLS handshake costs more than a request."""
    verify = verify_cluster(config.cluster, config.user or User(), config.abs_file)
    return httpx2.AsyncHTTPTransport(verify=verify, limits=httpx2.Limits(keepalive_expiry=_KEPT_SECONDS))


async def answer(call: Awaitable[T]) -> T:
    """What the API server answers; ClusterError if it refuses, or does not."""
    try:
        return await call
    except ApiError as error:
        raise ClusterError(int(error.response.status_code), str(error)) from error
    except httpx2.HTTPStatusError as error:
        raise ClusterError(int(error.response.status_code), str(error)) from error
    except httpx2.HTTPError as error:
        raise ClusterError(0, f"the API server does not answer: {error!r}") from error


def body_of(resource: object) -> Body:
    """Lightkube's generic resources are dicts."""
    return dict(cast("Body", resource))
