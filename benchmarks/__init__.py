"""Measurements of what the project promises about speed and memory, each beside the raw cost of the same machine.

    python -m benchmarks [NAME ...] [--quick] [--json] [--markdown] [--huge]

Rules: a figure is a ratio within one run, with the raw probe interleaved; CPU time counts, by process, and wall time
only where waiting is what is measured; medians over repeats; a missed bound is printed as missed. benchmarks/README.md
says what each figure is and how to read it.
"""
