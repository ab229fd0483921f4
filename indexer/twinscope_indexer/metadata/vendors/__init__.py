"""One module for each vendor, which reads the metadata that the instruments of this vendor write.

Every module in this folder defines a ``READER``; see `metadata.vendor`.
"""
