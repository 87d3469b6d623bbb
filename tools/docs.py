#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""The documentation: our pages, the comments they are made from, the Rust types.

It is built as the kernel builds its own, with `make htmldocs`, kernel-doc and
`make rustdoc`; only the pages are not all of the kernel's, but ours and those
around them. What is said about our files is a problem, and what is said about
others is not ours.

    /cache/docs/html    what is read
    /cache/docs/make    what make needs beside it
"""

import fcntl
import os
import re
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import kernel as kernels  # noqa: E402
from progress import say  # noqa: E402

DOCS = kernels.CACHE / "docs"
RUSTDOC = "rust/rustdoc"
HEADER = "include/linux/dma-phys.h"
# The sources whose comments are pages of ours.
COMMENTED = ("include/linux/dma-phys.h", "kernel/dma/phys/*.[ch]")

OURS = re.compile(r"dma[-_/]phys")
LEVEL = re.compile(r"\b(warning|error|severe|critical)\b", re.I)
FUNCTION = re.compile(r"\b((?:dma|cpu|mmio)_phys_\w+)\(")


def pages():
    """Our pages, by the names that Sphinx has for them."""
    top = kernels.REPO / "Documentation"
    return sorted(str(path.relative_to(top).with_suffix(""))
                  for path in top.rglob("*.rst"))


def _text(page):
    return (kernels.REPO / "Documentation" / f"{page}.rst").read_text()


def _refers(page):
    """The pages that a page of ours names."""
    text = _text(page)
    near = re.findall(r":doc:`(?:[^`<]*<)?([^`>]+)>?`", text)
    return {*re.findall(r"\bDocumentation/([\w/-]+)\.rst", text),
            *(os.path.normpath(os.path.join("/", os.path.dirname(page), name))
              .lstrip("/") for name in near)}


def _shown():
    """What Sphinx reads: our pages, the indices above, what they refer to."""
    names = {"index"}
    for page in pages():
        names |= {page, f"{os.path.dirname(page)}/index", *_refers(page)}
    return sorted(f"{name}.rst" for name in names)


def _short(line):
    """A complaint with files by the names that they have in the repository."""
    return re.sub(r"(/cache/tree/\w+/linux|\.)/(?=\w)", "", line).strip()


def _lost(src):
    """Documents that are named, and are not there."""
    named = [(path, name) for top in kernels.OVERLAY
             for path in sorted((kernels.REPO / top).rglob("*"))
             if path.is_file()
             for name in re.findall(r"\bDocumentation/[\w/-]+\.rst",
                                    path.read_text(errors="replace"))]
    return [f"{path.relative_to(kernels.REPO)}: there is no {name}"
            for path, name in named if not (src / name).exists()]


def _unlike_header(out):
    """Functions that are called by a name they do not have, or are on no page."""
    known = set()
    for path in [kernels.REPO / HEADER,
                 *(kernels.REPO / "kernel/dma/phys").glob("*.h")]:
        known |= set(FUNCTION.findall(path.read_text()))
    public = set(FUNCTION.findall((kernels.REPO / HEADER).read_text()))
    html = "".join((out / f"{page}.html").read_text() for page in pages())
    return [f"Documentation/{page}.rst: there is no {name}()"
            for page in pages()
            for name in sorted(set(FUNCTION.findall(_text(page))) - known)] + \
        [f"{HEADER}: {name}() is on no page" for name in sorted(public)
         if f'id="c.{name}"' not in html]


def _without_picture(out):
    """Pages with less than was drawn: what dot refuses becomes text."""
    found = []
    for page in pages():
        html = (out / f"{page}.html").read_text()
        drawn = re.findall(r'<img [^>]*src="([^"]*/DOT-[^"]+\.svg)"', html)
        whole = [name for name in drawn if "</svg>" in
                 (out / os.path.dirname(page) / name).read_text()]
        missing = _text(page).count(".. kernel-render:: DOT") - len(whole)
        if missing:
            found.append(f"Documentation/{page}.rst: pictures that could not "
                         f"be drawn: {missing}")
    return found


def sphinx(kernel, out, make):
    """Build the pages into out: what is wrong with them."""
    options = ["-E", "-t rustdoc", f"-D include_patterns={','.join(_shown())}",
               # conf.py reads these besides, and they are many.
               "-D exclude_patterns=netlink"]
    make.mkdir(parents=True, exist_ok=True)
    log = kernels.run(["make", "-C", kernel.src, f"O={make}", "htmldocs",
                       f"BUILDDIR={out}", f"SPHINXOPTS={' '.join(options)}"],
                      "docs-sphinx", "building the pages",
                      "the pages do not build")
    said = log.read_text().splitlines()
    return [_short(line) for line in said
            if OURS.search(line) and LEVEL.search(line)] + \
        _lost(kernel.src) + _unlike_header(out) + _without_picture(out)


def kernel_doc(kernel):
    """What is wrong with the comments."""
    files = sorted(path.relative_to(kernels.REPO) for pattern in COMMENTED
                   for path in kernels.REPO.glob(pattern))
    done = subprocess.run(["scripts/kernel-doc", "-none", "-Wall", *files],
                          cwd=kernel.src, text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT)
    return [_short(line) for line in done.stdout.splitlines()]


def rust_problems(said):
    """What rustdoc says about our files."""
    found = re.findall(r"^(?:warning|error)(?:\[\w+\])?: (.*)\n +--> (\S+)",
                       said, re.M)
    return [_short(f"{place}: {text}") for text, place in found
            if OURS.search(place)] + \
        [line for line in said.splitlines() if "srctree/ link" in line
         and OURS.search(line)]


def rustdoc(kernel, out):
    """Build the Rust documentation into out: what is wrong with ours."""
    log = kernels.run(["make", "-C", kernel.src, f"O={kernel.build}", "LLVM=1",
                       "rustdoc", f"rustdoc_output={out}"],
                      "docs-rustdoc", "building the Rust documentation",
                      "the Rust documentation does not build")
    return rust_problems(log.read_text())


def build(kernel):
    """All of it: what is wrong."""
    html = DOCS / "html"
    return kernel_doc(kernel) + sphinx(kernel, html, DOCS / "make") + \
        rustdoc(kernel, html / RUSTDOC)


def main():
    """The kernel is the one whose build directory we are told."""
    kernel = kernels.Kernel("base", Path(os.environ["DMA_PHYS_SRC"]),
                            Path(os.environ["DMA_PHYS_BUILD"]))
    DOCS.mkdir(exist_ok=True)
    with (DOCS / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            problems = build(kernel)
        except kernels.BuildError as error:
            say(str(error))
            return 1
    # A comment is read by more than one.
    for problem in dict.fromkeys(re.sub("^warning: ", "", problem, flags=re.I)
                                 for problem in problems):
        print(problem)
    for page in [*pages(), f"{RUSTDOC}/kernel/dma/phys/index"]:
        print(kernels.host_path(DOCS / f"html/{page}.html"))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
