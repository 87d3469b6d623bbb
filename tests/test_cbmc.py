# SPDX-License-Identifier: GPL-2.0
"""The arithmetic of ranges and segments, checked with CBMC.

Each program in cbmc/ proves one property of kernel/dma/phys/segment.h for all
arguments that it allows. Each mutant changes one operator of segment.h: CBMC
must then find a counterexample.
"""

import pathlib
import subprocess

import pytest

REPO = pathlib.Path(__file__).resolve().parent.parent
HERE = REPO / "tests/cbmc"
SEGMENT_H = REPO / "kernel/dma/phys/segment.h"

# A proof fails if a sum, difference or product wraps around, or if a loop needs
# more iterations than are unwound.
CHECKS = ["--no-standard-checks", "--bounds-check", "--pointer-check",
          "--pointer-overflow-check", "--div-by-zero-check",
          "--signed-overflow-check", "--unsigned-overflow-check",
          "--unwinding-assertions"]

# The maximum number of iterations of a program's loops, plus one.
UNWIND = {"append": 7, "merge": 5, "merge_large": 5, "max_segments": 6,
          "max_segments_long": 17, "split_all": 7,
          "add": 5, "bounce_parts": 6}

# (program, text of segment.h, its replacement)
MUTANTS = [
    ("range_ok", "len - 1 <= (phys_addr_t)-1 - addr",
     "len <= (phys_addr_t)-1 - addr"),
    ("range_ok", "len && len - 1", "len - 1"),
    ("within", "len <= size - offset", "len < size - offset"),
    ("within", "offset <= size &&", "offset <= len &&"),
    ("adjacent", "next - addr == len", "next - addr <= len"),
    ("adjacent", "next > addr &&", ""),
    ("last", "!__builtin_add_overflow(addr, more, last)",
     "(__builtin_add_overflow(addr, more, last), true)"),
    ("last", "sub_overflow(len, 1, &more)", "sub_overflow(len, 0, &more)"),
    ("shares_line", "(addr | len) &", "addr &"),
    ("shares_line", "(addr | len) &", "(addr ^ len) &"),
    ("split", "n - 1 > left", "n - 1 > left + 1"),
    ("split", "len < limits->max", "len <= limits->max + 1"),
    ("split", "end > addr ?", "end >= addr ?"),
    ("split_align", "n) & ~limits->align", "n) & ~(limits->align >> 1)"),
    ("split_align", "n == len ||", ""),
    ("split_align", "end > addr ? end - addr", "end < addr ? end - addr"),
    ("split_full", "limits->align >= limits->max", "limits->align > limits->max"),
    ("split_full", "n = left + 1", "n = left / 2 + 1"),
    ("split_all", "len < limits->max ? len : limits->max", "limits->max"),
    ("split_all", "n - 1 > left", "n > left - 1"),
    ("merge", "run->len += ahead->len", "run->len = ahead->len"),
    ("merge", "+= ahead->len;\n\t\tahead->len = 0;", "+= ahead->len;"),
    ("merge", "if (!dma_phys_adjacent(run->addr",
     "if (dma_phys_adjacent(run->addr"),
    ("merge_large", "next - addr == len", "next - addr <= len"),
    ("append", "*count >= max", "*count > max"),
    ("append", "\t\taddr = segments[*count].addr;\n", ""),
    ("append", "(*count)--;", ""),
    ("append", "addr += n;", "addr += 1;"),
    ("max_segments_long", "(limits->max & ~limits->align) ?: limits->max",
     "limits->max"),
    ("max_segments", "dma_phys_sum(ranges, ranges)", "ranges"),
    ("max_segments", "if (limits->boundary != (u64)-1)",
     "if (limits->boundary == 0)"),
    ("max_segments_large", "b > (u64)-1 - a", "b > (u64)-1"),
    ("max_segments_large", "if (limits->boundary != (u64)-1)", ""),
    ("no_split", "(limits->max) >> 1;", "(limits->max);"),
    ("no_split", "block < limits->boundary ?", "block > limits->boundary ?"),
    ("add", "likely(addr != list->next &&", "likely("),
    ("add", "(at[-1].addr ^ last) <=", "(addr ^ last) <="),
    ("add", "at[-1].len += len", "at[-1].len = len"),
    ("add", "at == list->stop", "at > list->stop"),
    ("add", "stop - segments, limits", "stop - segments + 1, limits"),
    ("add", "segments + count;", "segments + count + 1;"),
    ("bounce_parts", "dma_phys_sum(ranges, ranges)", "ranges"),
    ("both_limits", "b->max < both.max", "b->max > both.max"),
    ("both_limits", "b->boundary < both.boundary", "b->boundary > both.boundary"),
    ("both_limits", "both.align |=", "both.align &="),
    ("add_large", "unlikely(!dma_phys_last(addr, len, &last))",
     "(dma_phys_last(addr, len, &last), false)"),
    ("add_large", "last >= list->end", "last > list->end"),
    ("add_large", "list->next = last + 1", "list->next = last"),
]


def cbmc(name, headers, *more):
    """CBMC's exit code (0: proved, 10: refuted) and its output."""
    done = subprocess.run(
        ["cbmc", *CHECKS, "--unwind", str(UNWIND.get(name, 1)), *more,
         "-I", headers, "-I", HERE, "-I", REPO / "include",
         HERE / f"{name}.c"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return done.returncode, done.stdout


PROGRAMS = sorted(path.stem for path in HERE.glob("*.c"))


@pytest.mark.parametrize("name", PROGRAMS)
def test_proved(name):
    code, out = cbmc(name, SEGMENT_H.parent, "--verbosity", "4")
    assert code == 0, out


@pytest.mark.parametrize("name,old,new", MUTANTS, ids=[
    f"{name}-{number}" for number, (name, _, _) in enumerate(MUTANTS)])
def test_refuted(tmp_path, name, old, new):
    text = SEGMENT_H.read_text()
    assert text.count(old) == 1, "segment.h has changed: so must the mutant"
    (tmp_path / "segment.h").write_text(text.replace(old, new))
    code, out = cbmc(name, tmp_path, "--stop-on-fail")
    assert code == 10, out
    assert "unwinding assertion" not in out, out


def test_each_proof_can_fail():
    assert PROGRAMS and {name for name, _, _ in MUTANTS} == set(PROGRAMS)
