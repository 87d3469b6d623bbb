# SPDX-License-Identifier: GPL-2.0
"""Misuse does not compile, for the expected reason.

Each program in compile_fail/ is compiled with the command line of a sample, from the
build of the base kernel. Below a line that must be refused is

    //~^ ERROR E0308 part of the message	(Rust: code, then text)
    //~^ ERROR part of the message		(C)

The compiler must report these errors on these lines, and no others. It may report an
error several times, as several bounds may require the same. The two programs control.*
must compile.
"""

import json
import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent / "compile_fail"
PROGRAMS = sorted(p for p in HERE.iterdir() if p.suffix in (".rs", ".c"))
COMMAND_OF = {
    ".rs": "samples/rust/.rust_nvme_phys.o.cmd",
    ".c": "samples/dma-phys/nvme_phys/.block.o.cmd",
}


@pytest.fixture(scope="session")
def build():
    path = os.environ.get("DMA_PHYS_BUILD")
    if not path:
        pytest.fail("DMA_PHYS_BUILD does not name a kernel's build directory")
    return Path(path)


def expected_errors(program):
    """The errors that the program expects: [(line, code, text)]"""
    found = []
    for number, line in enumerate(program.read_text().splitlines(), 1):
        note = re.match(r"\s*//~\^ ERROR (?:(E\d{4}) )?(.+)", line)
        if note:
            found.append((number - 1, note[1] or "", note[2].strip()))
    return found


def kernel_command(build, suffix):
    """Environment and arguments with which a sample was compiled."""
    first_line = (build / COMMAND_OF[suffix]).read_text().split("\n", 1)[0]
    command = first_line.split(":=", 1)[1].replace("$(pound)", "#")
    words = shlex.split(command.split(";", 1)[0])

    env = dict(os.environ, RUSTC_BOOTSTRAP="1")
    while "=" in words[0]:
        name, value = words.pop(0).split("=", 1)
        env[name] = value
    return env, words


def without(words, drop, drop_with_value, sources):
    """The arguments without those that name input and output files."""
    kept = []
    words = iter(words)
    for word in words:
        if word in drop_with_value:
            next(words)
        elif not word.startswith(drop) and not word.endswith(sources):
            kept.append(word)
    return kept


def message_of(report):
    """The text of a report of rustc, without the source that it quotes."""
    parts = [report["message"]]
    parts += [span["label"] for span in report["spans"] if span["label"]]
    parts += [child["message"] for child in report["children"]]
    return "\n".join(parts)


def compile_rust(build, program, out):
    """(exit code, [(line, code, text)])"""
    env, words = kernel_command(build, ".rs")
    words = without(words, ("--emit=",), ("--out-dir", "--crate-name"), ".rs")
    words += ["--emit=metadata", "-o", str(out / "program.rmeta"),
              "--crate-name", "program", "--error-format=json", str(program)]
    run = subprocess.run(words, cwd=build, env=env, capture_output=True,
                         text=True, timeout=120)

    errors = []
    for line in run.stderr.splitlines():
        report = json.loads(line)
        if report.get("level") != "error":
            continue
        primary = [s for s in report["spans"] if s["is_primary"]]
        if not primary and report["message"].startswith("aborting due to"):
            continue
        errors.append((primary[0]["line_start"] if primary else 0,
                       (report["code"] or {}).get("code", ""),
                       message_of(report)))
    return run.returncode, errors


def compile_c(build, program, _out):
    """(exit code, [(line, "", text)])"""
    env, words = kernel_command(build, ".c")
    words = without(words, ("-Wp,-MMD", "-Wp,-MD"), ("-o",), (".c",))
    words.remove("-c")
    words += ["-fsyntax-only", "-fno-color-diagnostics",
              "-fno-caret-diagnostics", str(program)]
    run = subprocess.run(words, cwd=build, env=env, capture_output=True,
                         text=True, timeout=120)

    report = re.compile(r"^(.*?):(\d+):\d+: (?:fatal )?error: (.*)$", re.M)
    errors = [(int(line) if file == str(program) else 0, "", message)
              for file, line, message in report.findall(run.stderr)]
    return run.returncode, errors


def unmatched(expected, errors):
    """Expected errors that were not reported, and errors that were not expected."""
    def matches(note, error):
        return note[:2] == error[:2] and note[2] in error[2]

    return ([note for note in expected
             if not any(matches(note, error) for error in errors)],
            [error for error in errors
             if not any(matches(note, error) for note in expected)])


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda p: p.name)
def test_compile_fail(program, build, tmp_path):
    compile_it = compile_rust if program.suffix == ".rs" else compile_c
    expected = expected_errors(program)
    assert len(expected) == program.read_text().count("//~")
    assert bool(expected) != (program.stem == "control")

    status, errors = compile_it(build, program, tmp_path)
    missing, unexpected = unmatched(expected, errors)
    shown = "\n".join(f"line {line}: {code} {text}"
                      for line, code, text in unexpected)
    assert not missing, f"not refused: {missing}\nbut: {shown}"
    assert not unexpected, f"refused for another reason: {shown}"
    assert (status != 0) == bool(expected)
