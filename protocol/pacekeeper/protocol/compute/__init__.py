"""Accounting for compute: intervals, windows, lineage and caps, in unbounded integers of gigaFLOP."""
