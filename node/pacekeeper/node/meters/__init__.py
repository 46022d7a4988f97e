"""Metering inside the training process: counts operations and chip time, and tells the lab daemon.

Nothing here holds a key. Floors, each standing on those below: huggingface; torch_meter, jax_meter, command; meter;
courier, opening; record, client, hold; channel, spool, settings; http2, usage, digest, flop_count.
specs/metering.md has the rules.
"""
