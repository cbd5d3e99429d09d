"""hostdev-operator: host PCI devices for libvirt guests, stated as Kubernetes resources."""

__version__ = "0.1.0"
