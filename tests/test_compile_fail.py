# SPDX-License-Identifier: GPL-2.0
"""What must not compile does not, and for the right reason.

Every program in compile_fail/ is compiled as the samples are, against the
built kernel. Below a line of it that must be refused stands

    //~^ ERROR E0308 part of the message	(Rust: code, then text)
    //~^ ERROR part of the message		(C)

and the compiler must report these errors, on these lines, and no other; one
that several bounds ask for may be reported more than once. The two programs
called control.* hold nothing to refuse: they must compile.

DMA_PHYS_BUILD is the kernel's build directory (O=). The test runs where the
kernel was built.
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


def expected(program):
    """Errors that the program announces: (line, code, text)."""
    found = []
    for number, line in enumerate(program.read_text().splitlines(), 1):
        note = re.match(r"\s*//~\^ ERROR (?:(E\d{4}) )?(.+)", line)
        if note:
            found.append((number - 1, note[1] or "", note[2].strip()))
    return found


def kernel_command(build, suffix):
    """Environment and arguments that a sample was compiled with."""
    first_line = (build / COMMAND_OF[suffix]).read_text().split("\n", 1)[0]
    command = first_line.split(":=", 1)[1].replace("$(pound)", "#")
    words = shlex.split(command.split(";", 1)[0])

    env = dict(os.environ, RUSTC_BOOTSTRAP="1")
    while "=" in words[0]:
        name, value = words.pop(0).split("=", 1)
        env[name] = value
    return env, words


def without(words, drop, drop_with_value, sources):
    """The arguments, less what says where to read and write."""
    kept = []
    words = iter(words)
    for word in words:
        if word in drop_with_value:
            next(words)
        elif not word.startswith(drop) and not word.endswith(sources):
            kept.append(word)
    return kept


def message_of(report):
    """What a report of rustc says, without the source that it quotes."""
    parts = [report["message"]]
    parts += [span["label"] for span in report["spans"] if span["label"]]
    parts += [child["message"] for child in report["children"]]
    return "\n".join(parts)


def compile_rust(build, program, out):
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


def unmatched(announced, errors):
    """What was announced and not reported, and the other way round."""
    def fits(note, error):
        return note[:2] == error[:2] and note[2] in error[2]

    return ([note for note in announced
             if not any(fits(note, error) for error in errors)],
            [error for error in errors
             if not any(fits(note, error) for note in announced)])


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda p: p.name)
def test_compile_fail(program, build, tmp_path):
    compile_it = compile_rust if program.suffix == ".rs" else compile_c
    announced = expected(program)
    assert len(announced) == program.read_text().count("//~")
    assert bool(announced) != (program.stem == "control")

    status, errors = compile_it(build, program, tmp_path)
    missing, surplus = unmatched(announced, errors)
    shown = "\n".join(f"line {line}: {code} {text}"
                      for line, code, text in surplus)
    assert not missing, f"not refused: {missing}\nbut: {shown}"
    assert not surplus, f"refused for another reason: {shown}"
    assert (status != 0) == bool(announced)
