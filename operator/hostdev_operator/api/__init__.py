"""The custom resources of hostdev.dev/v1alpha1 as pydantic models; the CRDs are generated from them."""

GROUP = "hostdev.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
