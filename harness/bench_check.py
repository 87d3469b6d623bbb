# SPDX-License-Identifier: GPL-2.0
"""Compare counts with the baseline, and find those that grew.

Another compiler or kernel changes counts. With other versions than those of the
baseline, a typed method is compared by its ratio to the best raw one of the same run,
with a larger tolerance.
"""

import dataclasses
import pathlib
import re
import subprocess

from harness import bench_micro as micro
from harness import kernel as kernels

BASELINE = kernels.REPO / "harness/bench_baseline.csv"

# Relative tolerances: of counts, and of counts on machines on which a timer flushes
# unmapped IOVAs later.
COUNT_TOLERANCE = 0.01
LAZY_TOLERANCE = 0.04
LAZY_MACHINES = ("intel-lazy", "amd", "virtio-iommu")
# Of ratios, with other versions.
RATIO_TOLERANCE = 0.15

HEAD = """\
# SPDX-License-Identifier: GPL-2.0
# The baseline of ./run bench --check; ./run bench --baseline prints a new one.
# {versions}
"""


def versions(kernel):
    """The versions that counts depend on, as one line."""
    programs = {"clang": "clang", "rustc": "rustc", "QEMU": kernel.arch.qemu}
    words = [f"Linux {release(kernel)}"]
    for name, program in programs.items():
        out = subprocess.run([program, "--version"], text=True, check=True,
                             capture_output=True).stdout
        words.append(f"{name} {re.search(r'[0-9][0-9.]*[0-9]', out)[0]}")
    return ", ".join(words)


def release(kernel):
    """The kernel version without our suffix."""
    return re.match(r"[\d.]+\d", kernel.release)[0]


@dataclasses.dataclass(frozen=True)
class Baseline:
    """Rows, and the versions with which they were measured."""

    versions: str
    rows: list[micro.Row]


def write(rows, kernel, out):
    """Write rows as a baseline."""
    out.write(HEAD.format(versions=versions(kernel)))
    micro.write_csv(rows, out)


def read(path=BASELINE):
    """Read a baseline, by default the committed one."""
    lines = pathlib.Path(path).read_text().splitlines()
    comments = [line for line in lines if line.startswith("#")]
    return Baseline(comments[-1].removeprefix("# "),
                    list(micro.read_csv(lines[len(comments):])))


@dataclasses.dataclass
class Verdict:
    """The counts that grew, and notes about others."""

    grew: list[str] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)


def compare(rows, baseline, now):
    """Compare rows, measured with the versions now, with a baseline."""
    verdict = Verdict()
    compare_row = _compare_counts if now == baseline.versions \
        else _compare_ratios
    if compare_row == _compare_ratios:
        verdict.notes.append(
            f"the baseline is of {baseline.versions}; this is {now}: ratios "
            f"are compared, within {RATIO_TOLERANCE:.0%}; ./run bench "
            "--baseline prints a new one")
    old_rows, new_rows = _by_key(baseline.rows), _by_key(rows)
    verdict.grew += [f"{name(row)}: is no longer measured"
                     for key, row in old_rows.items() if key not in new_rows]
    for key, row in new_rows.items():
        if key in old_rows:
            compare_row(row, old_rows[key], new_rows, old_rows, verdict)
        else:
            verdict.notes.append(f"{name(row)}: not in the baseline")
    return verdict


def _by_key(rows):
    return {row.key: row for row in rows}


def name(row):
    """Machine, method and shape of a row, for messages."""
    return f"{row.machine}, {micro.label(row.language, row.method)}, {row.shape}"


def _compare_counts(row, old, _new_rows, _old_rows, verdict):
    if row.error != old.error:
        verdict.grew.append(f"{name(row)}: {row.error or 'no error'}, "
                            f"was {old.error or 'no error'}")
        return
    change = _change(row.instructions, old.instructions)
    if abs(change) <= (LAZY_TOLERANCE if row.machine in LAZY_MACHINES
                       else COUNT_TOLERANCE):
        return
    text = (f"{name(row)}: {row.instructions:,.1f} instructions, "
            f"was {old.instructions:,.1f} ({change:+.1%})")
    if not row.ours:
        verdict.notes.append(f"{text}; the raw API itself has changed")
    elif change > 0:
        verdict.grew.append(text)
    else:
        verdict.notes.append(f"{text}; ./run bench --baseline prints a new "
                             "baseline")


def _compare_ratios(row, old, new_rows, old_rows, verdict):
    if not row.ours or row.error or old.error:
        return
    ratio = row.instructions / _best_raw(row, new_rows)
    old_ratio = old.instructions / _best_raw(old, old_rows)
    if (change := _change(ratio, old_ratio)) > RATIO_TOLERANCE:
        verdict.grew.append(f"{name(row)}: {ratio:.3f} of the raw API, "
                            f"was {old_ratio:.3f} ({change:+.1%})")


def _best_raw(row, rows):
    return min(other.instructions for other in rows.values()
               if not other.ours and not other.error
               and (other.machine, other.shape) == (row.machine, row.shape))


def _change(new, old):
    """The relative change."""
    return new / old - 1 if old else float(bool(new))
