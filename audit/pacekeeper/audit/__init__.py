"""The audit: what anyone runs to re-derive the whole record from the log and one fingerprint.

Read a log (a URL or a copied directory), check every hash, signature and the quorum, replay, compare the published
findings, and say in words what was found. Depends on client/ and protocol/ only; nothing here is trusted by others.
"""

import pacekeeper.client  # noqa: F401  sets what must stand in the environment before gRPC is imported
