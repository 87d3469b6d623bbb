# SPDX-License-Identifier: GPL-2.0
"""Style of the sources: names, words, and the kernel's own checkers.

Compilers and checkers run with the command lines that the base kernel's build has
recorded, changed so that they only check and write nothing into the build.
"""

import functools
import json
import os
import pathlib
import re
import shlex
import subprocess
import tempfile

import pytest

REPO = pathlib.Path(__file__).resolve().parent.parent
KERNEL_PARTS = ["drivers", "kernel", "block", "include", "rust", "samples"]
ALL_PARTS = [*KERNEL_PARTS, "Documentation", "tests", "harness", "module", ".ci"]


def ours(*patterns, tops=KERNEL_PARTS):
    """The files of the repository that match, relative to it."""
    return sorted(str(path.relative_to(REPO))
                  for top in tops for pattern in patterns
                  for path in (REPO / top).rglob(pattern) if path.is_file())


C_FILES = [name for name in ours("*.c") if not name.startswith("rust/")]
RUST_FILES = ours("*.rs")
# Our files of each crate.
RUST_CRATES = {
    crate: [name for name in RUST_FILES if name.startswith(under)]
    for crate, under in {"rust/kernel.o": "rust/kernel/",
                         **{f"samples/rust/{name}.o": f"samples/rust/{name}"
                            for name in ("rust_nvme_phys", "rust_edu_phys",
                                         "rust_edu_peer_phys",
                                         "rust_dma_phys_benchmark")},
                         }.items()}
# The files of the core.
CORE = [name for name in ours("*.[ch]", tops=["kernel/dma/phys", "block"])
        if not name.startswith("kernel/dma/phys/tests/")]
# Every file that a person reads.
TEXT_FILES = [name for name in ours("*", tops=ALL_PARTS)
              if not name.endswith(".pyc")] + ["README.md", "run", "pytest.ini"]


def output(command, cwd=REPO, **environment):
    """Exit code and all output of a checker."""
    done = subprocess.run([str(word) for word in command], cwd=cwd,
                          env=os.environ | environment, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return done.returncode, done.stdout


def recorded(kernel, target):
    """The arguments of the compiler for an object of the build."""
    path = kernel.build / target
    lines = (path.parent / f".{path.name}.cmd").read_text()
    command = re.search(r"^savedcmd_\S+ := *(.*)$", lines, re.M)[1]
    # The commands after the first one are for linking and objtool.
    return shlex.split(command.replace("$(pound)", "#").split(" ;")[0])


# A file that only kernels of another architecture have, and one with the same flags.
LIKE = {f"kernel/dma/phys/tests/{name}": f"kernel/dma/phys/tests/{like}"
        for name, like in {"highmem_kunit.c": "sg_kunit.c"}.items()}


def kernel_with(kernel, name):
    """The kernel that a C file is built into. Some are in the debug kernel only."""
    path = kernel("base").build / LIKE.get(name, name)
    is_in_base = (path.parent / f".{path.stem}.o.cmd").exists()
    return kernel("base" if is_in_base else "debug")


# --- every file -------------------------------------------------------------

def test_every_file_names_its_licence():
    # Lists of options and of packages are not copyrighted.
    without = [name for name in TEXT_FILES
               if not re.search(r"\.config$|/packages$", name)
               and "SPDX-License-Identifier: GPL-2.0" not in
               "".join((REPO / name).read_text().splitlines()[:3])]
    assert without == []


def test_text_is_ascii():
    assert [f"{name}:{number}" for name in TEXT_FILES
            for number, line in enumerate((REPO / name).read_text().splitlines(), 1)
            if not line.isascii()] == []


# Names and words that were used before, and what to use instead. They are regular
# expressions for whole words, in which a space is anything between two words: the
# phrase may be part of a name or continue on the next line.
RETIRED = {
    r"dma phys vec\w*": "dma_phys_sg",
    r"(a|an|the|each|every|of|one) (?-i:vecs?)(?![\w<!])": "list, or sg",
    r"Vec(Mapping|Memory|Storage)": "SgMapping, SgMemory, SgStorage",
    r"manual sync": "SKIP_CPU_SYNC",
    r"peer users?|PeerUser": "peer_client, PeerClient",
    r"tell mapped": "trace, report",
    r"told": "notified, revoked, reported",
    r"kept ram": "reserved memory",
    r"(start|stop) master": "set_master, clear_master",
    r"dma phys tile\w*|tiles?": "segment",
    r"\w+_room(?=\()": "max_segments, capacity",
    r"life|death|dies|died": "state, recovery, failure",
    r"who|whoever": "the caller, a driver that",
    r"answer(s|ed)? (with )?(?-i:-?E[A-Z]{2}\w*)": "returns",
    r"for ever|forever": "indefinitely",
    r"(short|long|quick|plain) ways?": "fast path, slow path",
    r"(?<!set_)(?<!dma_)direct map(ping)?s?": "linear map; a map on the direct route",
    r"lend(s|er|ers|ing)?|lent": "share",
    r"(take|takes|took|taken|taking) back": "unregister, revoke, unmap",
    r"pieces?": "unmap record, part",
    r"undo(es|ing|ne)?|undid": "unmap, unwind, restore",
    r"watch(es|ed|ing|ers?)?": "instrumentation, trace, check",
    r"both ways": "bidirectional",
    r"dma phys most\w*": "max",
    r"(is|are|was|were) cut|cuts (a|the)": "split",
    r"as of (a|an|the)": "see, same as",
    r"(?<!_)its_[a-z]\w*|its(?= = )": "the name of what it is",
}
RETIRED_EXAMPLES = [
    "the caller is told", "Who maps it", "a vec of ranges", "dma_phys_vec_room()",
    "in the direct\n * map", "answers -EIO", "life.c", "peer_user", "both-ways",
    "its_queue", "ranges are cut", "dma_phys_most_segments()",
]


def retired(words):
    """The pattern of an entry of RETIRED."""
    return re.compile(r"(?<![A-Za-z])(?:%s)(?![A-Za-z])" %
                      words.replace(" ", r"[\s_*/#!+-]*"), re.I)


@functools.cache
def text_without_table(name):
    """The text of a file, without RETIRED; of a patch, the lines that it adds."""
    text = (REPO / name).read_text()
    if name.endswith(".patch"):
        return re.sub(r"^(?!\+).*", "", text, flags=re.M)
    if name == f"tests/{pathlib.Path(__file__).name}":
        return re.sub(r"^RETIRED\w* = [\[{]\n(.*\n)*?[\]}]\n",
                      lambda table: "\n" * table[0].count("\n"), text, flags=re.M)
    return text


@pytest.mark.parametrize("words", RETIRED)
def test_retired_words_are_not_used(words):
    found = []
    for name in TEXT_FILES + ours("*.patch", tops=["integrate"]):
        text = text_without_table(name)
        found += [f"{name}:{text.count(chr(10), 0, match.start()) + 1}: {match[0]!r}"
                  for match in retired(words).finditer(text)]
    assert not found, "\n".join([f"use: {RETIRED[words]}", *found])


@pytest.mark.parametrize("text", RETIRED_EXAMPLES)
def test_retired_words_are_found(text):
    assert any(retired(words).search(text) for words in RETIRED)


# --- C ----------------------------------------------------------------------

@pytest.mark.parametrize("name", ours("*.c", "*.h", "Kconfig", "Makefile"))
def test_checkpatch(kernel, name):
    # Trace events are written in another way.
    ignore = ["--ignore", "OPEN_ENDED_LINE,PARENTHESIS_ALIGNMENT"] \
        if name.startswith("include/trace/") else []
    done = subprocess.run(
        ["perl", kernel("base").src / "scripts/checkpatch.pl", "--strict", "--terse",
         "--no-summary", "--no-tree", *ignore, "--file", name],
        cwd=REPO, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def static_functions(name):
    """The static functions of a C file or header. Macros have upper case."""
    return {function for function in re.findall(
                r'^static\b[^;={}()#"]*?\b(\w+)\(', (REPO / name).read_text(), re.M)
            if not function.isupper()}


def test_names_of_static_functions_are_unique():
    """A name in kallsyms, ftrace and a stack trace identifies one function."""
    files = {}
    for name in CORE:
        for function in static_functions(name):
            files.setdefault(function, []).append(name)
    assert len(files) > 100
    assert {function: names for function, names in files.items()
            if len(names) > 1} == {}


def code_lines(name):
    """The lines of a C file without blank lines and comments."""
    text = re.sub(r"/\*.*?\*/", "", (REPO / name).read_text(), flags=re.S)
    return sum(bool(line.strip()) for line in text.splitlines())


# Files of the core that map nothing: they show, report and inject.
INSTRUMENTATION = {f"kernel/dma/phys/{name}" for name in (
    "debug.c", "debug.h", "leak.c", "fault.c", "trace.c")}


def test_core_is_small():
    files = {name for name in CORE if name.startswith("kernel/dma/phys/")}
    assert INSTRUMENTATION < files
    assert 2000 < sum(map(code_lines, files - INSTRUMENTATION)) <= 2750
    assert sum(map(code_lines, INSTRUMENTATION)) <= 600
    assert not [name for name in files if code_lines(name) > 400]


def c_command(kernel, name):
    """The compiler's arguments for a C file, without its output files."""
    like = LIKE.get(name, name)
    words = recorded(kernel, re.sub(r"\.c$", ".o", like))
    old, new = (pathlib.PurePath(path).stem for path in (like, name))
    words = [re.sub(rf"\b{old}\b", new, word) for word in words
             if not word.startswith("-Wp,-MM")]
    at = words.index("-o")
    return words[:at] + words[at + 2:]


def w1(kernel, words):
    """The arguments with the warnings of make W=1, from scripts/Makefile.warn."""
    text = (kernel.src / "scripts/Makefile.warn").read_text()
    group = re.search(r"findstring 1, .*?\n(.*?)\nelse\n(.*?)\n# W=2", text, re.S)
    assert group, "scripts/Makefile.warn has changed"
    more = re.findall(r"\+= (-W\S+)", group[1])
    fewer = re.findall(r"-Wno-[\w-]+", group[2])
    assert more and fewer
    return [word for word in words if word not in fewer] + more


@pytest.mark.parametrize("name", C_FILES)
def test_w1(kernel, name):
    built = kernel_with(kernel, name)
    words = w1(built, c_command(built, name))
    code, out = output([*words, "-fsyntax-only"], cwd=built.build)
    assert (code, out) == (0, "")


def test_w1_helpers(kernel):
    """The helpers are included into one file with all others of the kernel."""
    base = kernel("base")
    words = recorded(base, "rust/helpers/helpers.bc")
    words = [word for word in words if not word.startswith("-Wp,-MM")]
    words = w1(base, words[:words.index("-o")] + words[words.index("-o") + 2:])
    code, out = output([*words, "-fsyntax-only"], cwd=base.build)
    assert code == 0, out
    assert not [name for name in ours("*.c", tops=["rust/helpers"])
                if name in out], out


def is_module_info(line):
    """Whether sparse complains falsely: strlen() is not constant in sparse 0.6.4."""
    path, number = line.split(":")[:2]
    return pathlib.Path(path).read_text().splitlines()[int(number) - 1] \
        .startswith(("MODULE_", "module_param"))


@pytest.mark.parametrize("name", C_FILES)
def test_sparse(kernel, name):
    built = kernel_with(kernel, name)
    words = [word for word in c_command(built, name)[1:] if word != "-c"]
    flags = re.search(r"^CHECKFLAGS\s+:= ((?:.*\\\n)*.*)$",
                      (built.src / "Makefile").read_text(), re.M)[1]
    flags = re.sub(r"\$\(CF\)|\\\n", " ", flags).split()
    # sparse 0.6.4 does not know __typeof_unqual__.
    code, out = output(["sparse", *flags, "-D__x86_64__", "--arch=x86", "-m64",
                      "-mlittle-endian", "-D__typeof_unqual__=__typeof__",
                      *words], cwd=built.build)
    complaints = [line for line in out.splitlines()
                  if re.search(r"(warning|error): ", line)
                  and not (line.endswith("error: bad constant expression")
                           and is_module_info(line))]
    assert code == 0 and not complaints, "\n".join(complaints) or out


@pytest.mark.parametrize("name", ours("*.c", "*.h"))
def test_kernel_doc(kernel, name):
    code, out = output([kernel("base").src / "scripts/kernel-doc", "-none",
                      "-Wall", "-Werror", name])
    assert (code, out) == (0, "")


# --- Rust -------------------------------------------------------------------

@pytest.mark.parametrize("name", RUST_FILES)
def test_rustfmt(kernel, name):
    code, out = output(["rustfmt", "--check", "--config-path",
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
        code, out = output(words, cwd=base.build, RUSTC_BOOTSTRAP="1",
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
