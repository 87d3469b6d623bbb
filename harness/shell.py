# SPDX-License-Identifier: GPL-2.0
"""A shell in a virtual machine.

Two NVMe controllers are behind one switch, so that they can reach each other by bus
address. A machine of the host's architecture has the programs of the tool root, another
one those of its initramfs.
"""

import os
import sys
import tempfile
from pathlib import Path

from harness import arch, oracle, vm

# Large enough for any file system. The image is sparse.
DISK_SIZE = 1 << 30

# The .bashrc of the shell. Its load() replaces the one of guest.sh, which needs the
# initramfs. Programs write files to the current directory, fio its state for
# example, and all other directories are those of the tool root.
RC = """\
. {guest_sh}
load() {{
	case $1 in
{loads}
	*) return 0 ;;
	esac
}}
mount -t tmpfs tmpfs /tmp && cd /tmp
set -- $(controllers)
{binds}
cat <<END

Two NVMe controllers with empty disks, each bound to a driver of this project:

{disks}

For example:
  mkfs.ext4 -q $(disk $1) && mount $(disk $1) /mnt && df /mnt
  nvme smart-log $(disk $2)
  fio --name=x --filename=$(disk $2) --rw=randwrite --verify=crc32c --direct=1 --size=8m
  peer_io read $(disk $1) $2 0 65536	read from a disk into the other controller
  load nvme; bind nvme $1		bind the kernel's own driver
  poweroff -f				leave
END
"""

# A module that is loaded already is no error.
LOAD = """\
	{name})
		for file in {files}; do
			insmod $file 2>/dev/null
		done
		;;"""


def rc(kernel):
    """RC for a kernel. Modules that are built in need no load()."""
    loads = [LOAD.format(name=name, files=" ".join(map(str, files)))
             for name, files in vm.module_files(kernel).items()]
    drivers = list(enumerate(vm.DRIVERS.items(), 1))
    return RC.format(
        guest_sh=vm.GUEST / "guest.sh", loads="\n".join(loads),
        binds="\n".join(f"load {driver}; bind {driver} ${number}"
                        for number, (_, driver) in drivers),
        disks="\n".join(f"  $(disk ${number})	{language}"
                        for number, (language, _) in drivers))


def command(kernel, disks, home):
    """The virtme-ng command line. home becomes /root in the machine."""
    machine = vm.MACHINES["p2p-bus"]
    qemu = [word for device in machine.devices for word in ("-device", device)]
    qemu += vm.nvme(machine, disks)
    # With virtiofs another process writes guest memory, and TCG does not notice.
    accel = ["--force-9p"]
    if vm.accelerator(kernel) != "kvm":
        accel += ["--disable-kvm"]
    return ["vng", "--run", str(kernel.image), *accel, "--disable-microvm",
            "--cpus", "2", "--memory", "2G", "--user", "root",
            f"--rodir=/root={home}",
            f"--qemu-opts={' '.join(qemu)}"]


def main():
    """Run the shell. The environment names the kernel."""
    kernel = vm.kernel(sys.argv[1])
    with tempfile.TemporaryDirectory() as directory:
        disks = [oracle.Image(Path(directory, name), f"disk-{name}",
                              size=DISK_SIZE) for name in "ab"]
        if kernel.arch.name != arch.DEFAULT:
            machine = [machine for machine in vm.OTHER_ARCHES if machine.coherent
                       and machine.arch == kernel.arch.name][-1]
            guest = vm.VM(kernel, machine, devices=vm.nvme(machine, disks), shell=True)
            words = guest.arguments()
            return os.spawnvp(os.P_WAIT, words[0], words)
        home = Path(directory, "home")
        home.mkdir()
        (home / ".bashrc").write_text(rc(kernel))
        words = command(kernel, disks, home)
        return os.spawnvp(os.P_WAIT, words[0], words)


if __name__ == "__main__":
    sys.exit(main())
