"""The wire contract of Twinscope, and the code generated of it; see `twinscope.v1`."""
