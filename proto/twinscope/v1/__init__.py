"""Version 1 of the wire contract: ``types``, ``similarity``, ``catalog`` and ``errors``, each a ``..._pb2`` module.

The modules are generated from the .proto files next to them when the package is built or installed.
"""
