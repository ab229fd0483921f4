"""Finds the labelled twin of a micrograph in three steps: search, verification, verdict."""

import os

# gRPC reads these variables when it is first used. Twinscope reports the errors of gRPC itself, with their remedies.
if "GRPC_TRACE" not in os.environ:
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
