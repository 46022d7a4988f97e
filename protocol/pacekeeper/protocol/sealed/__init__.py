"""Sealed figures: Pedersen commitments to compute figures, and range proofs over them (specs/sealed.md).

Pure functions of bytes: randomness is passed in, and nothing here knows what a figure is about. Whoever proves binds
the proof to all that it is about, in the statement that the transcript begins with.
"""
