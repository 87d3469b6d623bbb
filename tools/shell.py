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

GREETING = """\
Two NVMe controllers, and these modules:
{modules}
For example:
  . tools/guest/guest.sh
{insmod}
  bind {driver} $(controllers)
  order {driver} $(controllers | head -n 1) 'read 0 8'
'poweroff -f' ends the machine.
"""


def greeting(kernel):
    """What there is, and the first commands to type."""
    driver = vm.DRIVERS["Rust"]
    files = vm.module_files(kernel).get(driver, [])
    return GREETING.format(
        driver=driver,
        modules="\n".join(f"  {path}" for path in kernel.modules),
        insmod="\n".join(f"  insmod {path}" for path in files))


def command(kernel, disks):
    """The virtme-ng command line."""
    machine = vm.MACHINES["p2p-bus"]
    qemu = [word for device in machine.devices for word in ("-device", device)]
    qemu += vm.nvme(machine, disks)
    # With virtiofs another process writes guest memory, which TCG does not see.
    accel = ["--force-9p"]
    if vm.accelerator(kernel) != "kvm":
        accel += ["--disable-kvm"]
    return ["vng", "--run", str(kernel.image), *accel, "--disable-microvm",
            "--cpus", "2", "--memory", "2G", "--user", "root",
            f"--qemu-opts={' '.join(qemu)}"]


def main():
    """The kernel is the one whose build directory we are told."""
    kernel = kernels.Kernel("", Path(os.environ["DMA_PHYS_SRC"]),
                            Path(os.environ["DMA_PHYS_BUILD"]))
    with tempfile.TemporaryDirectory() as directory:
        disks = [oracle.Disk(Path(directory, name), f"disk-{name}")
                 for name in "ab"]
        print(greeting(kernel), flush=True)
        line = command(kernel, disks)
        return os.spawnvp(os.P_WAIT, line[0], line)


if __name__ == "__main__":
    sys.exit(main())
