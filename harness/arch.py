# SPDX-License-Identifier: GPL-2.0
"""The architectures: how their kernels are built, and their machines in QEMU."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Arch:
    """An architecture.

    board is QEMU's -machine without options, console the guest's first serial port.
    busybox is a path in the tool root.
    """

    name: str
    make: tuple[str, ...]
    target: str
    image: str
    qemu: str
    board: str
    processor: str
    console: str
    append: str
    busybox: str


# On a busy host an emulated x86 processor may stall. The kernel would then distrust
# its clock or its timer interrupt, and could hang at boot.
X86_CLOCK = "tsc=reliable no_timer_check"

# Without five-level page tables: an interrupt while the kernel identifies the
# processor would cause a false KASAN report.
# Without x2APIC: under TCG the guest sometimes waits indefinitely for an interrupt,
# and the one before it is never acknowledged.
X86_PROCESSOR = "max,la57=off,x2apic=off"

# Without mitigations that QEMU does not emulate.
PSERIES = "pseries,cap-cfpc=broken,cap-sbbc=broken,cap-ibs=broken,cap-ccf-assist=off"

# The packages of other architectures, by Debian's names for them.
BUSYBOX = "usr/lib/dma-phys"

ARCHES = {arch.name: arch for arch in (
    Arch("x86-64", (), "bzImage", "arch/x86/boot/bzImage", "qemu-system-x86_64",
         "q35", X86_PROCESSOR, "ttyS0", X86_CLOCK, "usr/bin/busybox"),
    # Emulating pointer authentication as the architecture defines it is slow.
    Arch("arm64", ("ARCH=arm64",), "Image", "arch/arm64/boot/Image",
         "qemu-system-aarch64", "virt,gic-version=3", "max,pauth-impdef=on",
         "ttyAMA0", "", f"{BUSYBOX}/arm64/usr/bin/busybox"),
    Arch("arm", ("ARCH=arm",), "zImage", "arch/arm/boot/zImage", "qemu-system-arm",
         "virt", "cortex-a15", "ttyAMA0", "", f"{BUSYBOX}/armhf/usr/bin/busybox"),
    # The second serial port is hvc1.
    Arch("ppc64le", ("ARCH=powerpc",), "vmlinux", "vmlinux",
         "qemu-system-ppc64", PSERIES, "power9", "hvc0", "",
         f"{BUSYBOX}/ppc64el/usr/bin/busybox"),
)}
DEFAULT = "x86-64"
