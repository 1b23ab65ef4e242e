"""How nodes speak: listeners, clients, and the only code that knows the generated messages."""

import os

# gRPC reads this once, when it is imported. Only a node that serves wants its reports (see `node.rpc.handshakes`).
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
