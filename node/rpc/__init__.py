"""How nodes speak: listeners, clients, and the only code that knows the generated messages."""

import os

# gRPC reads this once, when it is imported. It reports a caller that it refused during the TLS handshake at this level
# only, and the node's log must show such callers whatever the environment says (node.rpc.handshakes).
os.environ["GRPC_VERBOSITY"] = "INFO"
