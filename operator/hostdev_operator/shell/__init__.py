"""The running programs: kopf handlers, work queue, event bridge, probes. The only importer of kopf."""
