"""The real parts behind ports.py: libvirt, the kernel's file systems, the journal, the API server."""
