"""What the benchmarks share: figures, probes, an agreement, a script of entries, made logs, and child processes."""
