"""Commitments: pauses, slow-downs and changes that several enter together. specs/commitments.md has the rules.

pledges says who is bound; transitions is the table of a commitment's life; entry, triggers, withdrawal and ramp are the
rules of its stages; lifecycle holds one commitment; registry holds all of them for the replay; constraints says what a
lab may do; simulate foresees. No file here reads a clock: log times and log indices are arguments.
"""
