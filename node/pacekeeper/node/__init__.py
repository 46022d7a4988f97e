"""The lab node: the daemon beside a lab's training, and the meters inside it.

The daemon, floor by floor, each standing on those below: `daemon` is the process; `training_gate`, `catchup` and
`requests` take in what is told; `keeper`, `outbox` and `reader` work beside the log; `desk` decides what to take,
`agenda` what to sign next and `accounts` what it says; `book` is the journal and the ledger as one. `meters` run in
the training process and know nothing of these. Rules: specs/node.md, specs/metering.md.

Nothing is imported here: this runs in training processes too. What must stand in the environment before gRPC is
imported is set by `daemon` alone, since it would hold for every other use of gRPC in a training process.
"""
