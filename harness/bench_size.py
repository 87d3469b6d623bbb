# SPDX-License-Identifier: GPL-2.0
"""Sizes in bytes: of types, of the core, and in a kernel that does not use it."""

import os
import pathlib
import re
import shlex
import subprocess
import tempfile

from harness import kernel as kernels

CORE = "kernel/dma/phys"
# The part of the core in another folder.
BLOCK = "block/blk-mq-dma-phys.o"
# Files that a compiler or the linker reads.
SOURCE = (".c", ".h", ".S", ".lds", ".rs")
# Read only if Rust is built into the kernel.
RUST = "rust/"


def output(command, cwd=None, stdin=""):
    """The standard output of a command."""
    return subprocess.run([str(word) for word in command], cwd=cwd, input=stdin,
                          capture_output=True, text=True, check=True).stdout


def size_of(kernel, name):
    """The size of a type, compiled with the command line of a core file."""
    lines = (kernel.build / f"{CORE}/.map.o.cmd").read_text()
    words = shlex.split(re.search(r"^savedcmd_\S+ := ([^;\n]*)", lines,
                                  re.M)[1].replace("$(pound)", "#"))
    words = [word for word in words[:words.index("-o")]
             if not word.startswith("-Wp,-MM")]
    with tempfile.TemporaryDirectory() as directory:
        source = pathlib.Path(directory, "size.c")
        source.write_text("#include <linux/dma-phys.h>\n"
                          f"char size_of_it[sizeof({name})];\n")
        out = source.with_suffix(".o")
        output([*words, "-Wno-missing-variable-declarations", "-o", out,
                source], cwd=kernel.build)
        symbols = output(["llvm-nm", "--print-size", out])
    return int(re.search(r"^\w+ (\w+) \w size_of_it$", symbols, re.M)[1], 16)


def _core_objects(kernel):
    """The object files of the core, without its debug options and tests."""
    names = objects(kernels.REPO / CORE / "Makefile", kernel)
    return [kernel.build / BLOCK,
            *(kernel.build / CORE / name for name in sorted(names)
              if name.endswith(".o"))]


def core(kernel):
    """The size of executable sections of the core's object files."""
    return sum(_executable_size(path) for path in _core_objects(kernel))


def tracing(kernel):
    """The part of core() that the tracepoint macros add."""
    symbols = output(["llvm-nm", "--print-size", "--radix=d",
                      *_core_objects(kernel)])
    return sum(int(size) for size in re.findall(
        r"^\d+ (\d+) [tT] \w*(?:trace_|traceiter_)\w+$", symbols, re.M))


def _executable_size(path):
    sections = output(["llvm-readelf", "--section-headers", "--wide", path])
    # ... name type address offset size entry-size flags ...
    return sum(int(size, 16) for size, flags in re.findall(
        r"\s[0-9a-f]{16} [0-9a-f]+ ([0-9a-f]+) [0-9a-f]+ +([A-Z]+) ", sections)
        if "X" in flags)


# Where the series for page tables adds to the kernel, and the names of its functions.
SERIES = "drivers/iommu/"
SERIES_NAMES = r"map_vecs|link_vecs"


def page_tables(kernel):
    """The functions that are added to IOMMU page tables, of all formats that are built."""
    symbols = output(["llvm-nm", "--print-size", "--radix=d",
                      kernel.build / "vmlinux"])
    return sum(int(size) for size in re.findall(
        rf"^-?\d+ (\d+) [tT] \w*(?:{SERIES_NAMES})\w*$", symbols, re.M))


# Files in which integrate/ moves a call, and adds none.
MOVED = {"drivers/base/dd.c"}


def unused(kernel):
    """The code that is added to a kernel without Rust that uses no typed maps.

    It is 0 if integrate/ adds to no source file outside rust/, and if with our
    options off no Makefile of the kernel builds another object. Otherwise it is the
    size of what these files and objects become. page_tables() is not part of it.
    """
    changed = set()
    for name in kernel.changed():
        if name.startswith(SERIES):
            continue
        if name.endswith(SOURCE) and not name.startswith(RUST) and \
                name not in MOVED:
            changed.add(name)
        if name.endswith("/Makefile"):
            before, after = (objects(path / name, kernel) for path in (
                kernel.pristine, kernel.src))
            changed |= {os.path.join(os.path.dirname(name), each)
                        for each in after - before}
    return sum(_built_size(kernel.build / name) for name in changed)


def objects(makefile, kernel):
    """The objects that a Makefile builds with our options off."""
    ours = {f"CONFIG_{option}" for path in kernels.REPO.rglob("Kconfig")
            for option in re.findall(r"^config (\w+)$", path.read_text(), re.M)}
    config = (kernel.build / "include/config/auto.conf").read_text()
    options = [line for line in config.splitlines()
               if line.split("=")[0] not in ours]
    rules = f"""
include {makefile}
.DEFAULT_GOAL := list
list: ; @echo $(obj-y) $(obj-m) $(lib-y) $(subdir-y)
"""
    return set(output(["make", "-rRf", "-"],
                      stdin="\n".join(options) + rules).split())


def _built_size(path):
    """The code built from a source file, or from all files of a folder."""
    paths = path.rglob("*.o") if path.is_dir() else [path.with_suffix(".o")]
    return sum(_executable_size(each) for each in paths if each.exists())
