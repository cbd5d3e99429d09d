"""Runs in the lab host: loads the agent's code, waits for a file, then runs the agent as ``python -m`` would.

Usage: prepared_agent.py GO_FILE ARGUMENTS...
"""

import importlib
import os
import runpy
import sys
import time
from pathlib import Path

os.environ["LC_ALL"] = "C"
for module in (
    "shell.agent",
    "shell.probes",
    "adapters.kube",
    "adapters.hypervisor",
    "adapters.kernel",
    "adapters.journal",
):
    importlib.import_module(f"hostdev_operator.{module}")
go = Path(sys.argv[1])
while not go.exists():
    time.sleep(0.05)
sys.argv = ["hostdev_operator", *sys.argv[2:]]
runpy.run_module("hostdev_operator", run_name="__main__", alter_sys=True)
