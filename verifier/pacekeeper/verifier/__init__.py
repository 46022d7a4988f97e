"""The national verifier: what a country runs to check every entry, witness the log and publish findings.

A country's cosignature says: append-only, every entry stored and replayed, none in my future, and the head's time
within the agreement's tolerance of my clock. Pieces, each standing on those before it: witness (the decision, pure),
store (what must survive), marker (what the key remembers), ledger (store, tree and replay together), checks (what is
worth an accusation), findings (accusations that hold, signed), follower (the stream to the log), gossip (the other
verifiers' checkpoints), publish (findings onto the log), rpc (status for anyone), daemon (all of them in one process).
specs/verifier.md numbers the rules.
"""
