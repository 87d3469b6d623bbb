# SPDX-License-Identifier: GPL-2.0
"""The documentation builds without a complaint about us, and its code compiles.

Each block of code on a page of ours is compiled by itself, as the samples are.
A block with a name is part of each one that follows. The Rust documentation is
made here of one crate only; `./run docs` makes all of it, as the kernel does.
"""

import os
import re
import shlex
import subprocess
import textwrap

import docs
import pytest
from test_compile_fail import kernel_command, without

# What a driver's file begins with.
C_HEADERS = ["blk-mq.h", "blk-mq-dma.h", "dma-mapping.h", "dma-phys.h",
             "dmaengine.h", "if_ether.h", "pci.h", "scatterlist.h", "slab.h"]
C_FLAGS = ["-fsyntax-only", "-Werror", "-Wno-unused-function",
           "-Wno-missing-declarations", "-Wno-missing-prototypes"]


def blocks():
    """Every block: (page, line, language, code with the named ones before)."""
    found = []
    for page in docs.pages():
        text = (docs.kernels.REPO / "Documentation" / f"{page}.rst").read_text()
        named = {}
        for block in re.finditer(r"^\.\. code-block:: (\w+)\n((?: +:.*\n)*)\n"
                                 r"((?:[ \t]+.*\n|\n)+)", text, re.M):
            language, options, code = block.groups()
            code = named.get(language, "") + textwrap.dedent(code)
            line = text.count("\n", 0, block.start()) + 1
            if ":name:" in options:
                named[language] = code
            found.append(pytest.param(language, code, id=f"{page}:{line}"))
    return found


def compile_c(build, code, out):
    """What the compiler says to a driver's file with this code."""
    program = out / "program.c"
    program.write_text("".join(f"#include <linux/{name}>\n"
                               for name in C_HEADERS) + code)
    env, words = kernel_command(build, ".c")
    words = without(words, ("-Wp,-MMD", "-Wp,-MD"), ("-o",), (".c",))
    words.remove("-c")
    return env, [*words, *C_FLAGS, str(program)]


def compile_rust(build, code, out):
    """The same, for a module."""
    program = out / "program.rs"
    program.write_text("#![allow(dead_code, missing_docs, unused_imports)]\n" + code)
    env, words = kernel_command(build, ".rs")
    words = without(words, ("--emit=",), ("--out-dir", "--crate-name"), ".rs")
    return env, [*words, "--emit=metadata", "-o", str(out / "program.rmeta"),
                 "--crate-name", "program", "-Dwarnings", str(program)]


@pytest.mark.parametrize("language, code", blocks())
def test_code_compiles(kernel, language, code, tmp_path):
    build = kernel("base").build
    compiler = {"c": compile_c, "rust": compile_rust}[language]
    env, words = compiler(build, code, tmp_path)
    done = subprocess.run(words, cwd=build, env=env, text=True,
                          capture_output=True, timeout=120)
    assert done.returncode == 0 and not done.stderr, done.stderr


def contexts():
    """What the comments say of each function's context."""
    comment = re.compile(r"^/\*\*\n \* (\w+)\(\) - (?:.*\n)*?"
                         r" \* Context: ((?:.*\n)*?) (?:\*/| \* Return:)", re.M)
    return {name: text for path in
            (docs.kernels.REPO / "kernel/dma/phys").glob("*.c")
            for name, text in comment.findall(path.read_text())}


def test_context_table():
    """It names each function, and says of it what its comment says."""
    page = docs.kernels.REPO / "Documentation/core-api/dma-phys.rst"
    rows = re.findall(r"^(\w+)\(\) +(any|process)(?: \[\d\]_)? +(no|yes)\b",
                      page.read_text(), re.M)
    said = contexts()
    assert sorted(name for name, _, _ in rows) == sorted(said)
    for name, context, sleeps in rows:
        assert said[name].lower().startswith((context, "as dma_phys_")), name
        assert ("may sleep" in said[name]) == (sleeps == "yes"), name


def test_pages(kernel, tmp_path):
    """They stand in the kernel's indices, all they name is there and is drawn."""
    problems = docs.sphinx(kernel("base"), tmp_path / "html", tmp_path / "make")
    assert not problems, "\n".join(problems)


def test_rustdoc(kernel, tmp_path):
    base = kernel("base")
    line = (base.build / "rust/.kernel.o.cmd").read_text().split("\n", 1)[0]
    # NAME=value... compiler arguments... ; what is for linking
    words = shlex.split(line.split(":=", 1)[1].split(" ;", 1)[0])
    compiler = words.index("rustc")
    env = dict(os.environ, RUSTC_BOOTSTRAP="1",
               **dict(word.split("=", 1) for word in words[:compiler]))
    words = [word for word in words[compiler + 1:]
             if not word.startswith("--emit=")]
    done = subprocess.run(["rustdoc", *words, "--output", str(tmp_path)],
                          cwd=base.build, env=env, text=True,
                          capture_output=True, timeout=300)
    assert done.returncode == 0, done.stderr
    problems = docs.rust_problems(done.stderr)
    assert not problems, "\n".join(problems)
    assert (tmp_path / "kernel/dma/phys/index.html").exists()
