"""The public witness: it cosigns that logs of any kind only grow (C2SP tlog-witness), whatever their entries are.

It is another office than the national verifier, with keys of its own: its word never counts towards the quorum of an
agreement. `desk.py` decides and signs, `store.py` remembers, `service.py` answers over HTTP, `settings.py` configures.
"""
