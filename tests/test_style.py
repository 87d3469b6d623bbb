# SPDX-License-Identifier: GPL-2.0
"""What tools say about the sources, with the kernel's own rules.

Compilers and checkers run with the command lines that the base kernel's build
recorded, changed to check and to write nothing, so that the build stays as it
was made.
"""

import json
import os
import pathlib
import re
import shlex
import subprocess
import tempfile

import pytest

REPO = pathlib.Path(__file__).resolve().parent.parent
KERNEL_PARTS = ["kernel", "include", "rust", "samples"]


def ours(*patterns, tops=KERNEL_PARTS):
    """The repository's files that match, as names in the kernel tree."""
    return sorted(str(path.relative_to(REPO))
                  for top in tops for pattern in patterns
                  for path in (REPO / top).rglob(pattern) if path.is_file())


C_FILES = [name for name in ours("*.c") if not name.startswith("rust/")]
RUST_FILES = ours("*.rs")
# Which of its files are ours.
RUST_CRATES = {
    crate: [name for name in RUST_FILES if name.startswith(under)]
    for crate, under in {"rust/kernel.o": "rust/kernel/",
                         **{f"samples/rust/{name}.o": f"samples/rust/{name}"
                            for name in ("rust_nvme_phys",
                                         "rust_dma_phys_benchmark")},
                         }.items()}


def said(command, cwd=REPO, **environment):
    """Exit code and all output of a checker."""
    done = subprocess.run([str(word) for word in command], cwd=cwd,
                          env=os.environ | environment, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return done.returncode, done.stdout


def recorded(kernel, target):
    """The words of the compiler's command line for an object of the build."""
    path = kernel.build / target
    lines = (path.parent / f".{path.name}.cmd").read_text()
    command = re.search(r"^savedcmd_\S+ := *(.*)$", lines, re.M)[1]
    # What follows the first command is for linking and objtool.
    return shlex.split(command.replace("$(pound)", "#").split(" ;")[0])


def compiled(kernel, name):
    """The kernel that a C file is built into: some only into the other one."""
    path = kernel("base").build / name
    there = (path.parent / f".{path.stem}.o.cmd").exists()
    return kernel("base" if there else "debug")


# --- every file -------------------------------------------------------------

def test_every_file_names_its_licence():
    everything = ours("*", tops=[*KERNEL_PARTS, "Documentation", "tests",
                                 "tools", ".ci"]) + ["run"]
    # Lists of options and of packages are no works.
    nameless = [name for name in everything
                if not re.search(r"\.(config|pyc)$|/packages$", name)
                and "SPDX-License-Identifier: GPL-2.0" not in
                "".join((REPO / name).read_text().splitlines()[:3])]
    assert nameless == []


@pytest.mark.parametrize("name", ours("*.c", "*.h", "*.rs", "Kconfig",
                                      "Makefile", "*.rst",
                                      tops=[*KERNEL_PARTS, "Documentation"]))
def test_checkpatch(kernel, name):
    ignore = ["--ignore", "OPEN_ENDED_LINE,PARENTHESIS_ALIGNMENT"] \
        if name.startswith("include/trace/") else []  # how events are written
    code, out = said(["perl", kernel("base").src / "scripts/checkpatch.pl",
                      "--strict", "--terse", "--no-summary", "--no-tree",
                      *ignore, "--file", name])
    assert code == 0, out


# --- C ----------------------------------------------------------------------

def c_command(kernel, name):
    """The compiler's words for a C file, without what they would write."""
    words = recorded(kernel, re.sub(r"\.c$", ".o", name))
    words = [word for word in words if not word.startswith("-Wp,-MM")]
    at = words.index("-o")
    return words[:at] + words[at + 2:]


def w1(kernel, words):
    """The same as with make W=1: scripts/Makefile.warn says what that is."""
    text = (kernel.src / "scripts/Makefile.warn").read_text()
    group = re.search(r"findstring 1, .*?\n(.*?)\nelse\n(.*?)\n# W=2", text, re.S)
    assert group, "scripts/Makefile.warn is not as it was"
    more = re.findall(r"\+= (-W\S+)", group[1])
    fewer = re.findall(r"-Wno-[\w-]+", group[2])
    assert more and fewer
    return [word for word in words if word not in fewer] + more


@pytest.mark.parametrize("name", C_FILES)
def test_w1(kernel, name):
    its = compiled(kernel, name)
    words = w1(its, c_command(its, name))
    code, out = said([*words, "-fsyntax-only"], cwd=its.build)
    assert (code, out) == (0, "")


def test_w1_helpers(kernel):
    """The helpers are part of one file with all others."""
    base = kernel("base")
    words = recorded(base, "rust/helpers/helpers.bc")
    words = [word for word in words if not word.startswith("-Wp,-MM")]
    words = w1(base, words[:words.index("-o")] + words[words.index("-o") + 2:])
    code, out = said([*words, "-fsyntax-only"], cwd=base.build)
    assert code == 0, out
    assert not [name for name in ours("*.c", tops=["rust/helpers"])
                if name in out], out


def is_module_info(line):
    """These assert with strlen(), which is no constant to sparse 0.6.4."""
    path, number = line.split(":")[:2]
    return pathlib.Path(path).read_text().splitlines()[int(number) - 1] \
        .startswith(("MODULE_", "module_param"))


@pytest.mark.parametrize("name", C_FILES)
def test_sparse(kernel, name):
    its = compiled(kernel, name)
    words = [word for word in c_command(its, name)[1:] if word != "-c"]
    flags = re.search(r"^CHECKFLAGS\s+:= ((?:.*\\\n)*.*)$",
                      (its.src / "Makefile").read_text(), re.M)[1]
    flags = re.sub(r"\$\(CF\)|\\\n", " ", flags).split()
    # sparse 0.6.4 knows only the older of the two keywords.
    code, out = said(["sparse", *flags, "-D__x86_64__", "--arch=x86", "-m64",
                      "-mlittle-endian", "-D__typeof_unqual__=__typeof__",
                      *words], cwd=its.build)
    complaints = [line for line in out.splitlines()
                  if re.search(r"(warning|error): ", line)
                  and not (line.endswith("error: bad constant expression")
                           and is_module_info(line))]
    assert code == 0 and not complaints, "\n".join(complaints) or out


@pytest.mark.parametrize("name", ours("*.c", "*.h"))
def test_kernel_doc(kernel, name):
    code, out = said([kernel("base").src / "scripts/kernel-doc", "-none",
                      "-Wall", "-Werror", name])
    assert (code, out) == (0, "")


# --- Rust -------------------------------------------------------------------

@pytest.mark.parametrize("name", RUST_FILES)
def test_rustfmt(kernel, name):
    code, out = said(["rustfmt", "--check", "--config-path",
                      kernel("base").src / ".rustfmt.toml", name])
    assert code == 0, out


@pytest.mark.parametrize("target", RUST_CRATES)
def test_clippy(kernel, target):
    base = kernel("base")
    words = recorded(base, target)
    # NAME=value... compiler arguments...
    first = words.index("--edition=2021") - 1
    variables = dict(word.split("=", 1) for word in words[:first])
    with tempfile.TemporaryDirectory() as out_dir:
        words = ["clippy-driver",
                 *(word for word in words[first + 1:]
                   if not word.startswith("--emit=")),
                 f"--emit=metadata={out_dir}/checked.rmeta",
                 "--error-format=json"]
        if "-o" in words:
            at = words.index("-o")
            words = words[:at] + words[at + 2:]
        code, out = said(words, cwd=base.build, RUSTC_BOOTSTRAP="1",
                         CLIPPY_CONF_DIR=str(base.src), **variables)
    found = [json.loads(line) for line in out.splitlines()
             if line.startswith("{")]
    complaints = [each["rendered"] for each in found
                  if each["level"] in ("warning", "error")
                  and any(span["file_name"].endswith(name)
                          for span in each["spans"]
                          for name in RUST_CRATES[target])]
    assert not complaints, "\n".join(complaints)
    assert code == 0, out
