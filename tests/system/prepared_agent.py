"""Runs in the lab host: loads the agent's code, waits for a file, then runs the agent as ``python -m`` would.

Usage: prepared_agent.py GO_FILE ARGUMENTS...
"""

import importlib
import os
import pkgutil
import runpy
import sys
import time
from pathlib import Path

import hostdev_operator.adapters
import hostdev_operator.shell

os.environ["LC_ALL"] = "C"
for package in (hostdev_operator.shell, hostdev_operator.adapters):
    for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        importlib.import_module(module.name)
go = Path(sys.argv[1])
while not go.exists():
    time.sleep(0.05)
sys.argv = ["hostdev_operator", *sys.argv[2:]]
runpy.run_module("hostdev_operator", run_name="__main__", alter_sys=True)
