"""Finds the labelled twin of a micrograph in three steps: search, verification, verdict."""

import os

# gRPC reads these variables when it is first used. gRPC then writes no messages: the messages of Twinscope name the
# errors of gRPC, and what to do.
if "GRPC_TRACE" not in os.environ:
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
