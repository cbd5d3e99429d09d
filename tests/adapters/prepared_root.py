"""A made-up host for manifests/host/hostdev-prepare: its /etc, /boot, /sys and /proc, boot loaders' tools, and a shell.

The tools do what counts of the real ones: grub-mkconfig sources its defaults in a shell, grubby replaces a word of the
same key, kernel-install makes entries from /etc/kernel/cmdline.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from hostdev_operator.core.preparation import Answer, Request

FOLDER = Path(__file__).parents[2] / "manifests/host"
BOOT = "11111111-2222-4333-8444-555555555555"
# What /bin/sh is on Debian, on Red Hat's and on small hosts; those of them that this machine has.
SHELLS = [shell for shell in (["dash"], ["bash", "--posix"], ["busybox", "sh"]) if shutil.which(shell[0])]
APPLETS = [
    "awk",
    "basename",
    "cat",
    "cmp",
    "cp",
    "cut",
    "grep",
    "head",
    "mkdir",
    "mktemp",
    "mv",
    "paste",
    "readlink",
    "rm",
    "rmdir",
    "sed",
    "sync",
    "tail",
    "tr",
    "xargs",
]

_MKCONFIG = """#!/bin/sh
# {dropins}
[ "$1" = -o ] || exit 1
GRUB_CMDLINE_LINUX= GRUB_CMDLINE_LINUX_DEFAULT=
. {root}/etc/default/grub
for x in {dropins}; do [ -e "$x" ] && . "$x"; done
[ ! -e {root}/mkconfig-fails ] || {{ echo "no space left" >&2; exit 1; }}
exec > "$2"
echo '### BEGIN /etc/grub.d/10_linux ###'
cat {root}/broken 2> /dev/null
entry() {{ printf "menuentry '%s' {{\\n\\tlinux\\t/vmlinuz root=/dev/sda1 ro %s\\n}}\\n" "$@"; }}
entry usual "$GRUB_CMDLINE_LINUX $GRUB_CMDLINE_LINUX_DEFAULT"
entry rescue "single $GRUB_CMDLINE_LINUX"
"""
_SCRIPT_CHECK = '#!/bin/sh\n! grep -q "syntax error" "$1"\n'
_GRUBBY = """#!/bin/sh
# One argument a line in {root}/grubby.log.
printf '%s\\n' "$*" >> {root}/grubby.log
entries={root}/boot/loader/entries
if [ "$1" = --info=ALL ]; then
    for e in $entries/*.conf; do
        n=${{e##*/}}
        printf 'index=0\\nkernel="/boot/vmlinuz-%s"\\n' "${{n%.conf}}"
        printf 'args="%s"\\nroot="/dev/sda1"\\n' "$(sed -n 's/^options //p' "$e")"
    done
    exit
fi
for e in $entries/*.conf; do
    n=${{e##*/}}
    [ "$1" = --update-kernel=ALL ] || [ "$1" = "--update-kernel=/boot/vmlinuz-${{n%.conf}}" ] || continue
    case $2 in
        --args=*) w=${{2#--args=}}; sed -i "/^options/{{s/ ${{w%%=*}}=[^ ]*//g;s/\\$/ $w/}}" "$e" ;;
        --remove-args=*) w=${{2#--remove-args=}}; sed -i "/^options/s/ $w\\( \\|\\$\\)/\\1/" "$e" ;;
    esac
done
"""
_KERNEL_INSTALL = """#!/bin/sh
[ "$1" != --help ] || {{ echo "kernel-install add-all"; exit; }}
[ "$1" = add-all ] || exit 1
line=$(cat {root}/etc/kernel/cmdline 2> /dev/null || cat {root}/proc/cmdline)
printf 'options %s\\n' "$line" > {root}/boot/loader/entries/6.1.conf
"""
_MODPROBE = '#!/bin/sh\necho "$@" >> {root}/modprobe.log\n[ ! -e {root}/no-modules ]\n'


@dataclass
class Root:
    """The host's root folder, and the output of the script's last run."""

    path: Path
    shell: list[str]
    output: str = ""

    def __post_init__(self) -> None:
        self.write("proc/cmdline", "BOOT_IMAGE=/vmlinuz root=/dev/sda1 ro quiet\n")
        self.write("proc/sys/kernel/random/boot_id", BOOT + "\n")
        self.tool("modprobe", _MODPROBE)
        if self.shell[0] == "busybox":
            for name in (*APPLETS, "sh"):
                (self.path / "bin" / name).symlink_to(shutil.which("busybox") or "")
        else:
            (self.path / "bin/sh").symlink_to(shutil.which(self.shell[0]) or "")

    # -- what the host is -------------------------------------------------------------------------------------------

    def write(self, path: str, text: str | bytes) -> Path:
        file = self.path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        return file

    def read(self, path: str) -> str:
        return (self.path / path).read_text()

    def tool(self, name: str, text: str, **more: object) -> None:
        self.write(f"bin/{name}", text.format(root=self.path, **more)).chmod(0o755)

    def grub(self, defaults: str | bytes, *, dropins: bool = False, config: str = "boot/grub/grub.cfg") -> None:
        """GRUB, its /etc/default/grub and the configuration made from it. ``dropins``: it reads grub.d (Debian)."""
        self.write("etc/default/grub", defaults)
        (self.path / config).parent.mkdir(parents=True, exist_ok=True)
        self.tool("grub-mkconfig", _MKCONFIG, dropins=f"{self.path}/etc/default/grub.d/*.cfg" if dropins else "")
        self.tool("grub-script-check", _SCRIPT_CHECK)
        environment = {"PATH": f"{self.path}/bin:/usr/bin:/bin"}
        subprocess.run(
            [str(self.path / "bin/grub-mkconfig"), "-o", str(self.path / config)], check=False, env=environment
        )

    def grubby(self, **options: str) -> None:
        """Entries of the Boot Loader Specification, by the names of their kernels."""
        for name, line in options.items():
            self.write(f"boot/loader/entries/{name}.conf", f"title {name}\noptions {line}\n")
        self.tool("grubby", _GRUBBY)

    def systemd_boot(self, line: str | None) -> None:
        """kernel-install with /etc/kernel/cmdline, or without."""
        if line is not None:
            self.write("etc/kernel/cmdline", line)
        self.write("boot/loader/entries/6.1.conf", "options before\n")
        self.tool("kernel-install", _KERNEL_INSTALL)

    def files(self) -> dict[str, bytes]:
        """Everything in /etc and /boot."""
        found = (path for name in ("etc", "boot") for path in (self.path / name).rglob("*") if path.is_file())
        return {str(path.relative_to(self.path)): path.read_bytes() for path in found}

    # -- the script --------------------------------------------------------------------------------------------------

    @property
    def state(self) -> Path:
        return self.path / "var/lib/hostdev-operator"

    @property
    def answer(self) -> Answer:
        return Answer.parse((self.state / "prepare.result").read_text())

    def ask(self, request: Request) -> int:
        """The agent's file, and the script."""
        return self.ask_text(request.text)

    def ask_text(self, text: str) -> int:
        self.write("var/lib/hostdev-operator/prepare.conf", text)
        return self.run()

    def run(self, *arguments: str) -> int:
        environment = {
            "PATH": f"{self.path}/bin:{os.environ['PATH']}",
            "HOSTDEV_ROOT": str(self.path),
            "HOSTDEV_LIB": str(FOLDER),
            "HOSTDEV_MODPROBE": str(self.path / "bin/modprobe"),
        }
        command = [*self.shell, str(FOLDER / "hostdev-prepare"), *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
        self.output = done.stdout + done.stderr
        return done.returncode
