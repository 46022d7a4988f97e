"""The client: how any role reaches the log, and the files and certificates that every role needs for it.

gRPC reads its environment once, when it is imported, so what must hold for every connection is set here, and each room
that imports gRPC imports this package first (in its own `__init__`).

- The agreement's certificates are ECDSA; with the TLS 1.2 suites limited to an RSA one, no 1.2 handshake can succeed
  and 1.3 remains (its suites are not configurable). gRPC for Python has no setting for it.
- gRPC reports each stranger's failed handshake on standard error; only its errors are wanted there.
"""

from __future__ import annotations

import os

os.environ["GRPC_SSL_CIPHER_SUITES"] = "ECDHE-RSA-AES256-GCM-SHA384"
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
