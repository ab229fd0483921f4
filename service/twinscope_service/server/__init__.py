"""The gRPC server of Twinscope."""
