"""Every limit of the protocol, each with its reason. specs/limits.md is generated from this file."""

from __future__ import annotations

from typing import Final

MAX_DOCUMENT_BYTES: Final = 60_000  # an agreement must fit, signed, into one entry
MAX_ENTRY_BYTES: Final = 65_535  # a C2SP entry bundle prefixes each entry with a uint16
MAX_ENVELOPE_BYTES: Final = MAX_ENTRY_BYTES - 13  # time, tags and lengths of the entry around it
MAX_ATTESTATION_BYTES: Final = 32_000  # so that a finding can carry one whole and still be an entry
MAX_SIGNATURES: Final = 32  # per envelope: every founding party signs entry 0
MAX_NOTE_BYTES: Final = 262_144  # 32 ML-DSA cosignatures and a body fit easily
MAX_NOTE_SIGNATURES: Final = 64  # C2SP asks for at least 16
MAX_PROOF_HASHES: Final = 63  # the deepest tree that a 63-bit size allows
MAX_TRANSITIONS: Final = 10_000  # of one log's verifiers: kept for ever, and every new follower reads each
MAX_TREE_SIZE: Final = 2**63 - 1  # sizes stay in a signed 64-bit integer everywhere
MAX_TIME_MS: Final = 253_402_300_799_999  # 9999-12-31T23:59:59.999Z: calendars can show it, JSON readers hold it
MAX_ID_CHARS: Final = 64  # ids of parties, labs, runs
MAX_TEXT_CHARS: Final = 400  # titles and notes: a sentence, not an essay
MAX_FIGURES: Final = 256  # runs in one period's account, times the parts that it is split into
MAX_SPLITS: Final = 64  # constraints that begin, bite or end within one period
MAX_POOLS: Final = 64  # accelerator models of one lab
MAX_ESTIMATES: Final = 4  # methods per figure
MAX_PARENTS: Final = 64  # checkpoints merged into one run
MAX_RUNS_PER_LAB: Final = 100_000  # bounds the replay's memory per lab
MAX_CHECKPOINTS_PER_RUN: Final = 10_000  # bounds the replay's memory per run
MAX_GAP_PERIODS: Final = 1_000  # periods that one Gap may cover
MAX_BATCH: Final = 256  # envelopes in one Submit
MAX_SUBMIT_BYTES: Final = 4_194_304  # gRPC's own default message limit
MAX_PARTIES: Final = 32  # each signs entry 0, which takes as many signatures
MAX_LABS: Final = 256  # more would hardly fit into an agreement
MAX_CAPS: Final = 64  # each figure is judged under every cap
MAX_COMMITMENTS: Final = 10_000  # on one log: each proposal costs a party's or lab's signature, and memory for ever
MAX_WINDOWED: Final = 64  # growth limits and caps to which one has pledged: each figure is judged under all of them
MAX_ALTERNATIVES: Final = 8  # conditions of one pledge: the fixed point looks at each in each round
MAX_NAMED: Final = 288  # every party and lab that an agreement can have
MAX_EXEMPTIONS: Final = 16  # categories times a few windows
MAX_INDICATORS: Final = 32  # per commitment: each report is counted under each
MAX_STAGES: Final = 16  # of a ramp
MAX_KEYS_REPLACED: Final = 64  # in one commitment
MAX_KEY_EPOCH: Final = 10_000  # keys of one holder, each of which is remembered for ever: one a day for 27 years
MAX_EXTENSIONS: Final = 100  # of one commitment's term
MAX_SCALE: Final = 9  # decimal places of an indicator's figures
MAX_METHOD_CHARS: Final = 4_000  # how an indicator was measured: a page
MAX_TIMELINE: Final = 10_000  # moments kept per commitment; what happens is still done, only not told
MAX_SIMULATED: Final = 100_000  # steps of one simulation
