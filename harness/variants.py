# SPDX-License-Identifier: GPL-2.0
"""Compile the C files of this repository in other configurations.

A variant is the base kernel with some options changed, another compiler or another
architecture. Nothing is linked: make compiles what each of our files needs
first, and our files. Variants of one compiler and architecture share a build
directory, /cache/build/variants-<compiler>-<architecture>-<key of the tree>.
Our files are compiled every time, so that the log has all their warnings.
"""

import contextlib
import dataclasses
import fcntl
import os
import re
import shutil
import subprocess
from pathlib import PurePath

from harness import kernel
from harness.progress import Step, say

# The folders and the file to compile, and the options of which they need one.
TARGETS = {
    "kernel/dma/phys/": ["DMA_PHYS"],
    "samples/dma-phys/": ["SAMPLE_DMA_PHYS_EDU", "SAMPLE_DMA_PHYS_EDU_PEER",
                          "SAMPLE_DMA_PHYS_NVME", "SAMPLE_DMA_PHYS_HAZARDS"],
    "block/blk-mq-dma-phys.o": ["BLOCK"],
}

# On top of it: without Rust, which takes minutes; with all C files.
COMMON = ("RUST=n KPROBES=y FAULT_INJECTION=y FAULT_INJECTION_DEBUG_FS=y DMA_PHYS=y "
          "DMA_PHYS_DEBUG=y FAIL_DMA_PHYS=y DMA_PHYS_FUZZ=y")

# What a compiler calls to divide numbers of two words.
DIVISION = re.compile(r" __(aeabi_u?ldivmod|u?(div|mod|divmod)[dt]i[34])$")

# PCI_P2PDMA depends on PCI and 64BIT.
NEEDS_P2PDMA = ("peer.c peer_*.c fuzz*.c raw_hazards.c edu_peer_phys.c "
                "nvme_phys/*")
I386 = ("LLVM=1", "ARCH=i386")


@dataclasses.dataclass(frozen=True)
class Variant:
    """A configuration to compile in."""

    name: str
    # "NAME=value ...": options that the resulting configuration must have.
    options: str
    # Patterns of the files that Kconfig or a Makefile leaves out.
    without: str = ""
    # Variables for make.
    make: tuple = ("LLVM=1",)
    # Whether each test run compiles it. The others need --long.
    daily: bool = False

    def __str__(self):
        without = f", without {self.without}" if self.without else ""
        return f"variant {self.name}: {self.toolchain}, {self.options}{without}"

    @property
    def toolchain(self):
        compiler = "clang" if "LLVM=1" in self.make else "gcc"
        return f"{compiler}-{dict(map(self._split, self.make)).get('ARCH', 'x86')}"

    @staticmethod
    def _split(word):
        return word.split("=")

    def sources(self):
        """The C files that it compiles, as paths in the kernel tree."""
        paths = [PurePath(path.relative_to(kernel.REPO))
                 for top in ("kernel", "block", "samples")
                 for path in (kernel.REPO / top).rglob("*.c")]
        without = self.without.split()
        if "HIGHMEM" not in self.options:
            without.append("highmem_kunit.c")
        return {str(path) for path in paths if not any(map(path.match, without))}


VARIANTS = {variant.name: variant for variant in (
    Variant("no-block", "BLOCK=n",
            without="blk-mq-dma-phys.c request_kunit.c fuzz_request.c "
                    "nvme_phys/*"),
    # Daily: removes most at once. Much of <linux/pci.h> and all of
    # <linux/pci-p2pdma.h> become stubs, and what has no stub is an error.
    Variant("no-pci", "PCI=n PCI_P2PDMA=n",
            without="peer.c tests/* raw_hazards.c edu_*.c nvme_phys/*",
            daily=True),
    Variant("no-p2pdma", "PCI=y PCI_P2PDMA=n", without=NEEDS_P2PDMA),
    Variant("no-iommu-dma", "IOMMU_SUPPORT=n IOMMU_DMA=n", without="fuzz*.c"),
    Variant("no-debug", "DMA_PHYS_DEBUG=n FAIL_DMA_PHYS=y",
            without="debug.c leak.c debug_kunit.c"),
    Variant("no-fault", "DMA_PHYS_DEBUG=y FAIL_DMA_PHYS=n",
            without="fault.c fault_kunit.c"),
    Variant("no-tracepoints", "FTRACE=n TRACEPOINTS=n"),
    Variant("dma-api-debug", "DEBUG_KERNEL=y DMA_API_DEBUG=y"),
    Variant("gcc", "CC_IS_GCC=y", make=()),
    # x86-64 always selects SWIOTLB.
    Variant("no-swiotlb", "64BIT=n HIGHMEM4G=y PHYS_ADDR_T_64BIT=n SWIOTLB=n "
            "INTEL_IOMMU=n", without=NEEDS_P2PDMA, make=I386),
    # Daily: addresses have 64 bits, size_t and unsigned long have 32. Only here
    # do formats, shifts, divisions and truncations of addresses show.
    Variant("pae", "64BIT=n HIGHMEM4G=y M686=y X86_PAE=y PHYS_ADDR_T_64BIT=y "
            "SWIOTLB=y INTEL_IOMMU=y", without=NEEDS_P2PDMA, make=I386,
            daily=True),
    # Devices that are not coherent, and no IOMMU.
    Variant("riscv64", "MMU=y 64BIT=y PCI_P2PDMA=n RISCV_ISA_ZICBOM=y",
            without=NEEDS_P2PDMA, make=("LLVM=1", "ARCH=riscv")),
    # Big-endian, with IOMMU_DMA.
    Variant("s390", "PCI=y IOMMU_DMA=y CPU_BIG_ENDIAN=y", without="fuzz*.c",
            make=("LLVM=1", "ARCH=s390")),
)}


def _options(text):
    return {f"CONFIG_{name}": value for name, value in
            (word.split("=") for word in text.split())}


@contextlib.contextmanager
def _locked():
    """One variant at a time, also among test runs that share the cache."""
    with (kernel.CACHE / "build/variants.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


class VariantBuild:
    """The build directory of a variant."""

    def __init__(self, variant, tree):
        self.variant = variant
        self.tree = tree
        self.dir = kernel.CACHE / "build" / \
            f"variants-{variant.toolchain}-{tree.parent.name}"
        # Exists while files are built that later builds use. If make was killed
        # then, they may be incomplete, and make would not notice.
        self.unfinished = self.dir / "dma-phys.unfinished"

    def compile(self):
        """Compile our files: ({path of each}, [line with a warning])."""
        say(str(self.variant))
        with Step(f"compiling variant {self.variant.name}"), _locked():
            self._prepare()
            log = self._compile().read_text(errors="replace") \
                .replace(f"{self.tree}/", "")
        compiled = {f"{name}.c" for name in
                    re.findall(r"^  CC (?:\[M\])? +(\S+)\.o$", log, re.M)}
        # Each file that includes a header repeats the header's warnings.
        warnings = set(re.findall(r"^.*warning:.*$", log, re.M | re.I))
        return compiled, sorted(warnings) + self._divisions(compiled)

    def _divisions(self, compiled):
        """The objects that divide by functions that the kernel does not have."""
        objects = [path for name in compiled
                   if (path := (self.dir / name).with_suffix(".o")).exists()]
        out = subprocess.run(["llvm-nm", "-A", "-u", *objects], text=True, check=True,
                             capture_output=True).stdout
        return [line for line in out.splitlines() if DIVISION.search(line)]

    def _run(self, what, *arguments):
        jobs = len(os.sched_getaffinity(0))
        return kernel.run(
            ["nice", "make", "-C", self.tree, f"O={self.dir}", f"-j{jobs}",
             "--output-sync=target", "W=1", *self.variant.make, *arguments],
            f"{what}-{self.variant.name}",
            failure=f"variant {self.variant.name}: {what} failed")

    def _prepare(self):
        if self.unfinished.exists():
            shutil.rmtree(self.dir)
        self.dir.mkdir(parents=True, exist_ok=True)
        self.unfinished.touch()
        try:
            self._configure()
            self._run("prepare", "prepare")
        finally:
            self.unfinished.unlink()

    def _configure(self):
        wanted = kernel.fragment("base") | _options(COMMON) | \
            _options(self.variant.options)
        fragment = self.dir / "dma-phys.config"
        fragment.write_text("".join(f"{name}={value}\n"
                                    for name, value in wanted.items()))
        # If this is missing, allnoconfig writes it. If it is older than .config,
        # make reads all Kconfig files again, with hundreds of compiler calls.
        (self.dir / "include/config/auto.conf").unlink(missing_ok=True)
        self._run("configure", f"KCONFIG_ALLCONFIG={fragment}", "allnoconfig")
        required = _options(f"DMA_PHYS=y RUST=n {self.variant.options}")
        lost = [f"{name}={value}" for name, value in required.items()
                if self._value(name) != value]
        if lost:
            raise kernel.BuildError(f"variant {self.variant.name}: Kconfig does "
                                    f"not allow {' '.join(lost)}")

    def _value(self, name):
        found = re.search(rf"^{name}=(.*)$",
                          (self.dir / ".config").read_text(), re.M)
        return found[1] if found else "n"

    def _compile(self):
        targets = [target for target, options in TARGETS.items()
                   if any(self._value(f"CONFIG_{option}") != "n"
                          for option in options)]
        for target in TARGETS:
            path = self.dir / target
            if path.is_dir():
                shutil.rmtree(path)
            path.unlink(missing_ok=True)
        return self._run("compile", "--keep-going", *targets)
