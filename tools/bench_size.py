# SPDX-License-Identifier: GPL-2.0
"""Bytes: of a handle, of the core's code, and of what others pay for it."""

import os
import pathlib
import re
import shlex
import subprocess
import tempfile

import kernel as kernels

CORE = ("range", "peer", "route", "map", "vec")
# What a compiler or a linker reads.
SOURCE = (".c", ".h", ".S", ".lds", ".rs")
# Read only where Rust is built into the kernel.
RUST = "rust/"


def said(command, cwd=None, stdin=""):
    """What a command prints."""
    return subprocess.run([str(word) for word in command], cwd=cwd, input=stdin,
                          capture_output=True, text=True, check=True).stdout


def handle(kernel):
    """sizeof(struct dma_phys_map), as the core's own compiler has it."""
    return _sizeof(kernel, "struct dma_phys_map")


def _sizeof(kernel, what):
    lines = (kernel.build / "kernel/dma/phys/.map.o.cmd").read_text()
    words = shlex.split(re.search(r"^savedcmd_\S+ := ([^;\n]*)", lines,
                                  re.M)[1].replace("$(pound)", "#"))
    words = [word for word in words[:words.index("-o")]
             if not word.startswith("-Wp,-MM")]
    with tempfile.TemporaryDirectory() as directory:
        source = pathlib.Path(directory, "size.c")
        source.write_text("#include <linux/dma-phys.h>\n"
                          f"char size_of_it[sizeof({what})];\n")
        out = source.with_suffix(".o")
        said([*words, "-Wno-missing-variable-declarations", "-o", out, source],
             cwd=kernel.build)
        symbols = said(["llvm-nm", "--print-size", out])
    return int(re.search(r"^\w+ (\w+) \w size_of_it$", symbols, re.M)[1], 16)


def core(kernel):
    """Code of the core's objects, in sections that are executed."""
    objects = [kernel.build / f"kernel/dma/phys/{name}.o" for name in CORE]
    return sum(_executed(path) for path in objects)


def tracing(kernel):
    """The part of it that the macros for tracepoints make."""
    symbols = said(["llvm-nm", "--print-size", "--radix=d", *(
        kernel.build / f"kernel/dma/phys/{name}.o" for name in CORE)])
    return sum(int(size) for size in re.findall(
        r"^\d+ (\d+) [tT] \w*(?:trace_|traceiter_)\w+$", symbols, re.M))


def _executed(path):
    sections = said(["llvm-readelf", "--section-headers", "--wide", path])
    # ... name type address offset size entry-size flags ...
    return sum(int(size, 16) for size, flags in re.findall(
        r"\s[0-9a-f]{16} [0-9a-f]+ ([0-9a-f]+) [0-9a-f]+ +([A-Z]+) ", sections)
        if "X" in flags)


def unused(kernel):
    """What a kernel without Rust, that uses nothing of ours, has from us.

    It is made from the same text as a kernel that never heard of us: of the files
    that were there before us, none that we change is source outside rust/, and
    with our options off none of the Makefiles has one more object. Were it not so,
    this would be the size of what it is not so for.
    """
    more = set()
    for name in kernel.changed():
        if name.endswith(SOURCE) and not name.startswith(RUST):
            more.add(name)
        if name.endswith("/Makefile"):
            before, after = (objects(path / name, kernel) for path in (
                kernel.pristine, kernel.src))
            more |= {os.path.join(os.path.dirname(name), each)
                     for each in after - before}
    return sum(_built(kernel.build / name) for name in more)


def objects(makefile, kernel):
    """What a Makefile has made where our options are off."""
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
    return set(said(["make", "-rRf", "-"], stdin="\n".join(options) + rules)
               .split())


def _built(path):
    """The code of what a source has become, or of all of a folder."""
    paths = path.rglob("*.o") if path.is_dir() else [path.with_suffix(".o")]
    return sum(_executed(each) for each in paths if each.exists())
