# SPDX-License-Identifier: GPL-2.0
"""The arithmetic of ranges and segments, proved with CBMC.

Each program in cbmc/ proves one property of kernel/dma/phys/tile.h, for all
arguments that it allows. That a proof says something is shown by changing one
operator of tile.h at a time: CBMC must then find where the property fails.
"""

import pathlib
import subprocess

import pytest

REPO = pathlib.Path(__file__).resolve().parent.parent
HERE = REPO / "tests/cbmc"
TILE = REPO / "kernel/dma/phys/tile.h"

# No sum, difference or product wraps around, and no loop goes on beyond what
# is unwound: else the proof fails.
CHECKS = ["--no-standard-checks", "--bounds-check", "--pointer-check",
          "--pointer-overflow-check", "--div-by-zero-check",
          "--signed-overflow-check", "--unsigned-overflow-check",
          "--unwinding-assertions"]

# How often the loops of a program turn at most, and once more.
UNWIND = {"append": 7, "merge": 5, "merge_large": 5, "most_segments": 6,
          "most_segments_long": 17, "split": 7,
          "tile": 5}

# (program, what is in tile.h, what is put there instead)
MUTANTS = [
    ("range_ok", "len - 1 <= (u64)-1 - addr", "len <= (u64)-1 - addr"),
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
    ("cut", "n - 1 > left", "n - 1 > left + 1"),
    ("cut", "len < limits->max", "len <= limits->max + 1"),
    ("cut", "end > addr ?", "end >= addr ?"),
    ("cut_align", "& ~limits->align", "& ~(limits->align >> 1)"),
    ("cut_align", "n == len ||", ""),
    ("cut_align", "end > addr ? end - addr", "end < addr ? end - addr"),
    ("cut_most", "limits->align >= limits->max", "limits->align > limits->max"),
    ("cut_most", "n = left + 1", "n = left / 2 + 1"),
    ("split", "len < limits->max ? len : limits->max", "limits->max"),
    ("split", "n - 1 > left", "n > left - 1"),
    ("merge", "run->len += ahead->len", "run->len = ahead->len"),
    ("merge", "+= ahead->len;\n\t\tahead->len = 0;", "+= ahead->len;"),
    ("merge", "if (!dma_phys_adjacent(run->addr",
     "if (dma_phys_adjacent(run->addr"),
    ("merge_large", "next - addr == len", "next - addr <= len"),
    ("append", "*count >= room", "*count > room"),
    ("append", "\t\taddr = segments[*count].addr;\n", ""),
    ("append", "(*count)--;", ""),
    ("append", "addr += n;", "addr += 1;"),
    ("most_segments_long", "limits->max - limits->align :",
     "limits->max :"),
    ("most_segments", "dma_phys_sum(pieces, pieces)", "pieces"),
    ("most_segments", "if (limits->boundary != (u64)-1)",
     "if (limits->boundary == 0)"),
    ("most_segments_large", "b > (u64)-1 - a", "b > (u64)-1"),
    ("most_segments_large", "if (limits->boundary != (u64)-1)", ""),
    ("easy", "(limits->max) >> 1;", "(limits->max);"),
    ("easy", "block < limits->boundary ?", "block > limits->boundary ?"),
    ("tile", "likely(addr != tiles->next &&", "likely("),
    ("tile", "(at[-1].addr ^ last) <=", "(addr ^ last) <="),
    ("tile", "at[-1].len += len", "at[-1].len = len"),
    ("tile", "at == tiles->stop", "at > tiles->stop"),
    ("tile", "stop - segments, limits", "stop - segments + 1, limits"),
    ("tile", "segments + count;", "segments + count + 1;"),
    ("tile_large", "unlikely(!dma_phys_last(addr, len, &last))",
     "(dma_phys_last(addr, len, &last), false)"),
    ("tile_large", "last >= tiles->end", "last > tiles->end"),
    ("tile_large", "tiles->next = last + 1", "tiles->next = last"),
]


def cbmc(name, headers, *more):
    """CBMC's exit code and what it said: 0 is proved, 10 refuted."""
    done = subprocess.run(
        ["cbmc", *CHECKS, "--unwind", str(UNWIND.get(name, 1)), *more,
         "-I", headers, "-I", HERE, "-I", REPO / "include",
         HERE / f"{name}.c"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return done.returncode, done.stdout


PROGRAMS = sorted(path.stem for path in HERE.glob("*.c"))


@pytest.mark.parametrize("name", PROGRAMS)
def test_proved(name):
    code, out = cbmc(name, TILE.parent, "--verbosity", "4")
    assert code == 0, out


@pytest.mark.parametrize("name,old,new", MUTANTS, ids=[
    f"{name}-{number}" for number, (name, _, _) in enumerate(MUTANTS)])
def test_refuted(tmp_path, name, old, new):
    text = TILE.read_text()
    assert text.count(old) == 1, "tile.h has changed: so must the mutant"
    (tmp_path / "tile.h").write_text(text.replace(old, new))
    code, out = cbmc(name, tmp_path, "--stop-on-fail")
    assert code == 10, out
    assert "unwinding assertion" not in out, out


def test_each_proof_can_fail():
    assert PROGRAMS and {name for name, _, _ in MUTANTS} == set(PROGRAMS)
