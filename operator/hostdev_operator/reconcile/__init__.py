"""observe -> plan -> apply -> report, over ports. Synchronous: the shell runs it in threads."""
