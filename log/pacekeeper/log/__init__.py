"""The shared log: one append-only sequence of statements that every participant can submit to and anyone can read.

Its pieces, each a small file: `sequencer` decides (pure), `store` keeps, `writer` commits, `witnesses` counts
cosignatures (pure), `edge` and `publisher` make tiles and the checkpoint, `witnessing` ties the two, `rpc`, `cosign`
and `http` speak, `recovery` starts up, `fsck` re-checks everything, `server` is the process. Rules: specs/log.md.
"""

import pacekeeper.client  # noqa: F401  sets what must stand in the environment before gRPC is imported
