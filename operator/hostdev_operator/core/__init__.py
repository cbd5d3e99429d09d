"""Pure decisions: no I/O, no clock, no libraries of the host or the cluster."""
