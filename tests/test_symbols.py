# SPDX-License-Identifier: GPL-2.0
"""The core calls only what the kernel exports to modules.

So it maps, flushes, bounces and writes page tables only through the kernel's
entry points for drivers, and can be built as a module.
"""

import graphlib
import pathlib
import re
import subprocess

import pytest

REPO = pathlib.Path(__file__).resolve().parent.parent

# Symbols that are not exported, and why the core needs them.
EXCEPTIONS = {
    # The P2P path to a BAR. pci_p2pdma_distance_many() tells whether there is
    # one, and not whether it is by bus address.
    "pci_p2pdma_map_type": "peer.c",
    # The same for a page of a request, behind pci_p2pdma_state().
    "__pci_p2pdma_update_state": "blk-mq-dma-phys.c",
    # Read only: while dma:dma_map_phys is traced, the fast path is off, and the
    # kernel's own entry point traces.
    "__tracepoint_dma_map_phys": "blk-mq-dma-phys.c, map.c, sg.c, sg_array.c",
}


def objects(kernel):
    """The objects of the core in a build, without its tests."""
    folder = kernel.build / "kernel/dma/phys"
    names = [path.with_suffix(".o").name
             for path in (REPO / "kernel/dma/phys").glob("*.c")]
    return [path for name in names if (path := folder / name).exists()] + \
        [kernel.build / "block/blk-mq-dma-phys.o"]


def symbols(path, *options):
    """The symbols that llvm-nm prints for an object."""
    out = subprocess.run(["llvm-nm", *options, path], check=True, text=True,
                         capture_output=True).stdout
    return {line.split()[-1] for line in out.splitlines() if line.strip()}


def exported(kernel):
    """The symbols of the kernel that modules can use.

    A static call has a key and a trampoline: modules are given the latter.
    """
    text = (kernel.build / "Module.symvers").read_text()
    names = {line.split("\t")[1] for line in text.splitlines()
             if line.split("\t")[2] == "vmlinux"}
    return names | {name.replace("__SCT__", "__SCK__") for name in names}


def external(kernel):
    """{symbol: objects of the core that need it from elsewhere}"""
    found = objects(kernel)
    own = set().union(*(symbols(path, "--defined-only") for path in found))
    needed = {}
    for path in found:
        for name in symbols(path, "--undefined-only") - own:
            needed.setdefault(name, set()).add(path.stem)
    return needed


@pytest.mark.parametrize("flavour", ["base", "debug"])
def test_core_needs_exported_symbols_only(kernel, flavour):
    built = kernel(flavour)
    # Sanitizers and coverage call what the compiler inserted, and modules have
    # these too.
    own = re.compile(r"__(asan|ubsan|tsan|sanitizer|kcsan|llvm)_")
    missing = {name: sorted(files) for name, files in external(built).items()
               if name not in exported(built) and name not in EXCEPTIONS
               and not own.match(name)}
    assert missing == {}


def test_exceptions_are_needed(kernel):
    """By the files that are named, and by no other."""
    needed = external(kernel("base"))
    assert {name: ", ".join(f"{file}.c" for file in sorted(needed.get(name, ())))
            for name in EXCEPTIONS} == EXCEPTIONS


@pytest.mark.parametrize("flavour", ["base", "debug"])
def test_core_does_not_do_the_kernels_work(kernel, flavour):
    """No page table, bounce slot or cache line, though a module could."""
    work = re.compile(r"^_*(iommu_(map|unmap|iova_to_phys|sync_map)|swiotlb_\w+|"
                      r"clflush\w*|arch_sync_dma\w*|dma_direct\w*|kmap\w*|"
                      r"memcpy\w*|memremap)$")
    # Instrumentation copies records and text of its own.
    found = {name: files - {"trace", "debug"}
             for name, files in external(kernel(flavour)).items()
             if work.match(name)}
    assert {name: files for name, files in found.items() if files} == {}


def test_calls_are_not_circular(kernel):
    found = objects(kernel("base"))
    owner = {name: path.stem for path in found
             for name in symbols(path, "--defined-only")}
    calls = {path.stem: {owner[name] for name in symbols(path, "--undefined-only")
                         if name in owner} for path in found}
    assert len(calls["sg"]) > 2
    list(graphlib.TopologicalSorter(calls).static_order())
