# SPDX-License-Identifier: GPL-2.0
"""Build the documentation: pages, kernel-doc comments and the Rust types.

It is built with the kernel's `make htmldocs`, kernel-doc and `make rustdoc`, but
with our pages and those that they need only. A complaint about a file of ours is a
problem; others are ignored.

    /cache/docs/html    the result
    /cache/docs/make    make's O=
"""

import fcntl
import os
import re
import subprocess
import sys

from harness import kernel as kernels
from harness import vm
from harness.progress import say

DOCS = kernels.CACHE / "docs"
RUSTDOC = "rust/rustdoc"
# The headers for drivers, and all sources whose comments are on our pages.
HEADERS = ("include/linux/dma-phys.h", "include/linux/dma-phys-names.h",
           "include/linux/dma-phys-peer.h", "include/linux/blk-mq-dma-phys.h")
COMMENTED = (*HEADERS, "kernel/dma/phys/*.[ch]", "block/blk-mq-dma-phys.c")

OURS = re.compile(r"dma[-_/]phys")
LEVEL = re.compile(r"\b(warning|error|severe|critical)\b", re.I)
FUNCTION = re.compile(
    r"\b((?:dma|cpu|mmio)_phys_\w+|blk_rq_(?:\w+_)?dma_phys_\w+)\(")


def pages():
    """Our pages, as Sphinx names them."""
    top = kernels.REPO / "Documentation"
    return sorted(str(path.relative_to(top).with_suffix(""))
                  for path in top.rglob("*.rst"))


def _text(page):
    return (kernels.REPO / "Documentation" / f"{page}.rst").read_text()


def _references(page):
    """The pages that a page of ours refers to."""
    text = _text(page)
    relative = re.findall(r":doc:`(?:[^`<]*<)?([^`>]+)>?`", text)
    return {*re.findall(r"\bDocumentation/([\w/-]+)\.rst", text),
            *(os.path.normpath(os.path.join("/", os.path.dirname(page), name))
              .lstrip("/") for name in relative)}


def _included_pages():
    """The pages that Sphinx reads: ours, their indices and their references."""
    names = {"index"}
    for page in pages():
        names |= {page, f"{os.path.dirname(page)}/index", *_references(page)}
    return sorted(f"{name}.rst" for name in names)


def _short(line):
    """A complaint with paths of the repository instead of paths of the tree."""
    return re.sub(r"(/cache/tree/\w+/linux|\.)/(?=\w)", "", line).strip()


def _missing_pages(src):
    """Problems: references of our files to documents that do not exist."""
    references = [
        (path, name) for top in kernels.OVERLAY
        for path in sorted((kernels.REPO / top).rglob("*")) if path.is_file()
        for name in re.findall(r"\bDocumentation/[\w/-]+\.rst",
                               path.read_text(errors="replace"))]
    return [f"{path.relative_to(kernels.REPO)}: there is no {name}"
            for path, name in references if not (src / name).exists()]


def _functions(*patterns):
    """The functions that files name: {function: path}"""
    return {name: str(path.relative_to(kernels.REPO))
            for pattern in patterns
            for path in sorted(kernels.REPO.glob(pattern))
            for name in FUNCTION.findall(path.read_text())}


def _function_problems(out):
    """Problems: functions that do not exist, and functions without a page."""
    known = _functions(*HEADERS, "kernel/dma/phys/*.h")
    public = _functions(*HEADERS)
    html = "".join((out / f"{page}.html").read_text() for page in pages())
    return [f"Documentation/{page}.rst: there is no {name}()"
            for page in pages()
            for name in sorted(set(FUNCTION.findall(_text(page))) - set(known))
            ] + \
        [f"{header}: {name}() is on no page"
         for name, header in sorted(public.items())
         if f'id="c.{name}"' not in html]


def _picture_problems(out):
    """Problems: pages on which dot could not draw a picture."""
    problems = []
    for page in pages():
        html = (out / f"{page}.html").read_text()
        drawn = re.findall(r'<img [^>]*src="([^"]*/DOT-[^"]+\.svg)"', html)
        complete = [name for name in drawn if "</svg>" in
                    (out / os.path.dirname(page) / name).read_text()]
        missing = _text(page).count(".. kernel-render:: DOT") - len(complete)
        if missing:
            problems.append(f"Documentation/{page}.rst: pictures that could "
                            f"not be drawn: {missing}")
    return problems


def sphinx(kernel, out, make):
    """Build the pages into out: the problems."""
    options = ["-E", "-t rustdoc",
               f"-D include_patterns={','.join(_included_pages())}",
               # conf.py adds these to the included pages; there are many.
               "-D exclude_patterns=netlink"]
    make.mkdir(parents=True, exist_ok=True)
    log = kernels.run(["make", "-C", kernel.src, f"O={make}", "htmldocs",
                       f"BUILDDIR={out}", f"SPHINXOPTS={' '.join(options)}"],
                      "docs-sphinx", "building the pages",
                      "the pages cannot be built")
    return [_short(line) for line in log.read_text().splitlines()
            if OURS.search(line) and LEVEL.search(line)] + \
        _missing_pages(kernel.src) + _function_problems(out) + \
        _picture_problems(out)


def kernel_doc(kernel):
    """The problems of the kernel-doc comments."""
    files = sorted(path.relative_to(kernels.REPO) for pattern in COMMENTED
                   for path in kernels.REPO.glob(pattern))
    done = subprocess.run(["scripts/kernel-doc", "-none", "-Wall", *files],
                          cwd=kernel.src, text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT)
    return [_short(line) for line in done.stdout.splitlines()]


def rust_problems(output):
    """The problems of our files in rustdoc's output."""
    complaints = re.findall(
        r"^(?:warning|error)(?:\[\w+\])?: (.*)\n +--> (\S+)", output, re.M)
    return [_short(f"{place}: {text}") for text, place in complaints
            if OURS.search(place)] + \
        [line for line in output.splitlines() if "srctree/ link" in line
         and OURS.search(line)]


def rustdoc(kernel, out):
    """Build the Rust documentation into out: the problems."""
    log = kernels.run(["make", "-C", kernel.src, f"O={kernel.build}", "LLVM=1",
                       "rustdoc", f"rustdoc_output={out}"],
                      "docs-rustdoc", "building the Rust documentation",
                      "the Rust documentation cannot be built")
    return rust_problems(log.read_text())


def build(kernel):
    """Build everything: the problems."""
    html = DOCS / "html"
    return kernel_doc(kernel) + sphinx(kernel, html, DOCS / "make") + \
        rustdoc(kernel, html / RUSTDOC)


def main():
    """Build the documentation. The environment names the kernel."""
    kernel = vm.kernel()
    DOCS.mkdir(exist_ok=True)
    with (DOCS / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            problems = build(kernel)
        except kernels.BuildError as error:
            say(str(error))
            return 1
    # Several tools read the same comment: print each problem once.
    for problem in dict.fromkeys(re.sub("^warning: ", "", problem, flags=re.I)
                                 for problem in problems):
        print(problem)
    for page in [*pages(), f"{RUSTDOC}/kernel/dma/phys/index"]:
        print(kernels.host_path(DOCS / f"html/{page}.html"))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
