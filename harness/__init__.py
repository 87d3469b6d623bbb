# SPDX-License-Identifier: GPL-2.0
"""Kernels, virtual machines, measurements and the commands of ./run.

Everything here runs inside the tool root (root.sh), with the checkout as the
current directory: python3 -m harness.demo.
"""
