# SPDX-License-Identifier: GPL-2.0
"""Whether counts are still those of the baseline, and what grew.

Compilers and kernels roll on, and counts with them. Where they are not those of
the baseline, a typed method is compared by its ratio to the best raw one of the
same run, and less strictly.
"""

import dataclasses
import pathlib
import re
import subprocess

import bench_micro as micro
import kernel as kernels

BASELINE = kernels.REPO / "tools/bench_baseline.csv"

# Counts repeat within this; where unmapping is put off to a timer, within that.
SAME = 0.01
LAZY = 0.04
LAZY_MACHINES = ("intel-lazy", "amd", "virtio-iommu")
# With another compiler, ratios do within this.
ALIKE = 0.15

HEAD = """\
# SPDX-License-Identifier: GPL-2.0
# What ./run bench --check compares with; ./run bench --baseline writes it.
# {versions}
"""


def versions(kernel):
    """What counts depend on, as one line."""
    tools = {"clang": "clang", "rustc": "rustc", "QEMU": "qemu-system-x86_64"}
    found = [f"Linux {release(kernel)}"]
    for name, program in tools.items():
        out = subprocess.run([program, "--version"], text=True, check=True,
                             capture_output=True).stdout
        found.append(f"{name} {re.search(r'[0-9][0-9.]*[0-9]', out)[0]}")
    return ", ".join(found)


def release(kernel):
    """The kernel's version without what is ours in its name."""
    return re.match(r"[\d.]+\d", kernel.release)[0]


@dataclasses.dataclass(frozen=True)
class Baseline:
    """Rows, and with what they were measured."""

    versions: str
    rows: list[micro.Row]


def write(rows, kernel, out):
    """A baseline of these rows."""
    out.write(HEAD.format(versions=versions(kernel)))
    micro.write_csv(rows, out)


def read(path=BASELINE):
    """The committed one."""
    lines = pathlib.Path(path).read_text().splitlines()
    comments = [line for line in lines if line.startswith("#")]
    return Baseline(comments[-1].removeprefix("# "),
                    list(micro.read_csv(lines[len(comments):])))


@dataclasses.dataclass
class Verdict:
    """What is wrong, and what is worth to be said beside it."""

    grew: list[str] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)


def compare(rows, baseline, now):
    """Rows of now with a baseline; now is versions()."""
    verdict = Verdict()
    judge = _by_count if now == baseline.versions else _by_ratio
    if judge == _by_ratio:
        verdict.notes.append(
            f"the baseline is of {baseline.versions}; this is {now}: ratios "
            f"are compared, within {ALIKE:.0%}; ./run bench --baseline takes "
            "a new one")
    was, known = _by_key(baseline.rows), _by_key(rows)
    verdict.grew += [f"{name(row)}: is no longer measured"
                     for key, row in was.items() if key not in known]
    for key, row in known.items():
        if key in was:
            judge(row, was[key], known, was, verdict)
        else:
            verdict.notes.append(f"{name(row)}: not in the baseline")
    return verdict


def _by_key(rows):
    return {row.key: row for row in rows}


def name(row):
    """What it is a count of."""
    return f"{row.machine}, {micro.label(row.language, row.method)}, {row.shape}"


def _by_count(row, old, _known, _was, verdict):
    if row.error != old.error:
        verdict.grew.append(f"{name(row)}: {row.error or 'no error'}, "
                            f"was {old.error or 'no error'}")
        return
    change = _change(row.instructions, old.instructions)
    if abs(change) <= (LAZY if row.machine in LAZY_MACHINES else SAME):
        return
    text = (f"{name(row)}: {row.instructions:,.1f} instructions, "
            f"was {old.instructions:,.1f} ({change:+.1%})")
    if not row.typed:
        verdict.notes.append(f"{text}; this is the raw API, the ground moved")
    elif change > 0:
        verdict.grew.append(text)
    else:
        verdict.notes.append(f"{text}; ./run bench --baseline keeps it so")


def _by_ratio(row, old, known, was, verdict):
    if not row.typed or row.error or old.error:
        return
    ratio = row.instructions / _best_raw(row, known)
    before = old.instructions / _best_raw(old, was)
    if (change := _change(ratio, before)) > ALIKE:
        verdict.grew.append(f"{name(row)}: {ratio:.3f} of the raw API, "
                            f"was {before:.3f} ({change:+.1%})")


def _best_raw(row, rows):
    return min(other.instructions for other in rows.values()
               if not other.typed and not other.error
               and (other.machine, other.shape) == (row.machine, row.shape))


def _change(now, before):
    return now / before - 1 if before else float(bool(now))
