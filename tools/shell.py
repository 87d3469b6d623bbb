#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""A shell in a virtual machine with a whole user space and two NVMe controllers.

The controllers sit behind one switch, so that they are peers by bus address.
"""

import os
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import kernel as kernels  # noqa: E402
import oracle  # noqa: E402
import vm  # noqa: E402

# Enough for any file system; a file full of holes.
DISK = 1 << 30

# What the shell in the machine reads before its first prompt. There is no
# initramfs here that load() would find its modules in.
RC = """\
cd {repo}
. tools/guest/guest.sh
load() {{
	case $1 in
{loads}
	*) return 0 ;;
	esac
}}
set -- $(controllers)
{binds}
cat <<END

Two NVMe controllers with empty disks, each held by a driver of this project:

{disks}

For example:
  mkfs.ext4 -q $(disk $1) && mount $(disk $1) /mnt && df /mnt
  nvme smart-log $(disk $2)
  fio --name=x --filename=$(disk $2) --rw=randwrite --verify=crc32c --direct=1 --size=8m
  peer_io read $(disk $1) $2 0 65536	from one disk into the other one's memory
  load nvme; bind nvme $1		the kernel's own driver takes it
  poweroff -f				the end
END
"""

# The files are in order: what a module depends on, then itself.
LOAD = """\
	{name})
		for file in {files}; do
			insmod $file 2>/dev/null
		done
		;;"""


def rc(kernel):
    """RC for a kernel; what it has built in needs no loading."""
    loads = [LOAD.format(name=name, files=" ".join(map(str, files)))
             for name, files in vm.module_files(kernel).items()]
    drivers = list(enumerate(vm.DRIVERS.items(), 1))
    return RC.format(
        repo=Path(__file__).resolve().parents[1], loads="\n".join(loads),
        binds="\n".join(f"load {driver}; bind {driver} ${number}"
                        for number, (_, driver) in drivers),
        disks="\n".join(f"  $(disk ${number})	{language}"
                        for number, (language, _) in drivers))


def command(kernel, disks, home):
    """The virtme-ng command line; home is root's in the machine."""
    machine = vm.MACHINES["p2p-bus"]
    qemu = [word for device in machine.devices for word in ("-device", device)]
    qemu += vm.nvme(machine, disks)
    # With virtiofs another process writes guest memory, which TCG does not see.
    accel = ["--force-9p"]
    if vm.accelerator(kernel) != "kvm":
        accel += ["--disable-kvm"]
    return ["vng", "--run", str(kernel.image), *accel, "--disable-microvm",
            "--cpus", "2", "--memory", "2G", "--user", "root",
            f"--rodir=/root={home}",
            f"--qemu-opts={' '.join(qemu)}"]


def main():
    """The kernel is the one whose build directory we are told."""
    kernel = kernels.Kernel("", Path(os.environ["DMA_PHYS_SRC"]),
                            Path(os.environ["DMA_PHYS_BUILD"]))
    with tempfile.TemporaryDirectory() as directory:
        disks = [oracle.Image(Path(directory, name), f"disk-{name}",
                              size=DISK) for name in "ab"]
        home = Path(directory, "home")
        home.mkdir()
        (home / ".bashrc").write_text(rc(kernel))
        line = command(kernel, disks, home)
        return os.spawnvp(os.P_WAIT, line[0], line)


if __name__ == "__main__":
    sys.exit(main())
