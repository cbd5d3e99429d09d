"""An interactive laboratory: `python -m tests.lab.shell` boots a host and runs in it what is typed."""

from __future__ import annotations

import argparse
import readline  # noqa: F401 - gives input() its line editing
import tempfile
from pathlib import Path

from tests.lab.channel import LabCommandError, LabError
from tests.lab.host import LabHost

HELP = """\
Each line runs in the laboratory host (bash, as root). Besides:
  .cut      power cut and power on again      .cycle   orderly power cycle
  .monitor COMMAND  QEMU's human monitor      .logs FOLDER  collect all logs
  .help     this text                         .quit    end (also Ctrl-D); the disks are thrown away"""


def answer(lab: LabHost, line: str) -> None:
    """Do what one line asks for and print the result."""
    word, _, rest = line.partition(" ")
    if word == ".cut":
        lab.power_cut()
        lab.power_on()
    elif word == ".cycle":
        lab.power_cycle()
    elif word == ".monitor":
        print(lab.qmp.execute("human-monitor-command", **{"command-line": rest}))
    elif word == ".logs":
        lab.collect_logs(Path(rest or "build/lab-logs/shell"))
    elif word == ".help":
        print(HELP)
    else:
        result = lab.run(line, timeout=600, check=False)
        print(result.stdout + result.stderr, end="")
        if result.returncode:
            print(f"[{result.returncode}]")


def main() -> None:
    """Boot, answer lines until the end of the input, cut the power."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--no-iommu", action="store_true", help="a host whose kernel does not use the IOMMU")
    parser.add_argument("--kernel-args", default="", help="appended to the kernel's command line")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lab-") as folder:
        print("booting the laboratory host (20 s; minutes when its image must be built) ...")
        with LabHost.boot(Path(folder), iommu=not options.no_iommu, kernel_args=options.kernel_args) as lab:
            print(f"console: tail -f {lab.machine.console}\nshare:   {lab.machine.share} is /share\n{HELP}")
            while True:
                try:
                    line = input("lab# ").strip()
                except EOFError:
                    break
                if line == ".quit":
                    break
                try:
                    if line:
                        answer(lab, line)
                except LabCommandError as error:
                    print(error)
                except LabError as error:
                    print(f"laboratory: {error}")


if __name__ == "__main__":
    main()
