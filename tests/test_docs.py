# SPDX-License-Identifier: GPL-2.0
"""The documentation builds without a complaint about our files; its code compiles.

Each block of code on a page is compiled as the samples are. A block with a name is
compiled together with each block that follows it. The Rust documentation is built
for one crate; `./run docs` builds all of it.
"""

import os
import re
import shlex
import subprocess
import textwrap

import pytest
from harness import docs
from test_compile_fail import kernel_command, without

# The headers of a driver.
C_HEADERS = ["blk-mq.h", "blk-mq-dma.h", "dma-mapping.h", "dma-phys.h",
             "dmaengine.h", "if_ether.h", "pci.h", "scatterlist.h", "slab.h"]
C_FLAGS = ["-fsyntax-only", "-Werror", "-Wno-unused-function",
           "-Wno-missing-declarations", "-Wno-missing-prototypes"]


def blocks():
    """Parameters for each block: its language, and its code after the named ones."""
    found = []
    for page in docs.pages():
        text = (docs.kernels.REPO / "Documentation" / f"{page}.rst").read_text()
        named = {}
        for block in re.finditer(r"^\.\. code-block:: (c|rust)\n((?: +:.*\n)*)\n"
                                 r"((?:[ \t]+.*\n|\n)+)", text, re.M):
            language, options, code = block.groups()
            code = named.get(language, "") + textwrap.dedent(code)
            line = text.count("\n", 0, block.start()) + 1
            if ":name:" in options:
                named[language] = code
            found.append(pytest.param(language, code, id=f"{page}:{line}"))
    return found


def compile_c(build, code, out):
    """Environment and command that compile the code as a file of a driver."""
    program = out / "program.c"
    program.write_text("".join(f"#include <linux/{name}>\n"
                               for name in C_HEADERS) + code)
    env, words = kernel_command(build, ".c")
    words = without(words, ("-Wp,-MMD", "-Wp,-MD"), ("-o",), (".c",))
    words.remove("-c")
    return env, [*words, *C_FLAGS, str(program)]


def compile_rust(build, code, out):
    """Environment and command that compile the code as a module."""
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
    """{function: the context that its comment documents}"""
    comment = re.compile(r"^/\*\*\n \* (\w+)\(\) - .*\n(?: \*(?!/).*\n)*?"
                         r" \* Context: (.*\n(?: \* (?!Return:).*\n)*)", re.M)
    sources = [*(docs.kernels.REPO / "kernel/dma/phys").glob("*.c"),
               docs.kernels.REPO / "block/blk-mq-dma-phys.c"]
    return {name: text.replace("\n * ", " ").strip() for path in sources
            for name, text in comment.findall(path.read_text())}


def resolved(documented, name):
    """The context of a function whose comment may refer to another function."""
    text = documented[name]
    other = re.match(r"(?:as|see) (\w+)\(\)", text, re.I)
    return resolved(documented, other[1]) if other else text


def test_context_table():
    """The page lists each function, with the context that its comment documents."""
    page = docs.kernels.REPO / "Documentation/core-api/dma-phys.rst"
    rows = re.findall(r"^(\w+)\(\) +(any|process)( \[\d\]_)? +(no|yes)\b",
                      page.read_text(), re.M)
    documented = contexts()
    assert sorted(name for name, *_ in rows) == sorted(documented)
    for name, context, note, sleeps in rows:
        text = resolved(documented, name).lower()
        assert text.startswith(context), name
        # The notes name the ranges that need process context.
        assert not note or re.match(r"any\b.*\b(as|see|process)\b", text), name
        assert ("may sleep" in text) == (sleeps == "yes"), name


def test_pages(kernel, tmp_path):
    """The kernel's indices list them; references exist, and pictures are drawn."""
    problems = docs.sphinx(kernel("base"), tmp_path / "html", tmp_path / "make")
    assert not problems, "\n".join(problems)


def test_rustdoc(kernel, tmp_path):
    base = kernel("base")
    line = (base.build / "rust/.kernel.o.cmd").read_text().split("\n", 1)[0]
    # NAME=value... compiler arguments... ; commands after it
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
