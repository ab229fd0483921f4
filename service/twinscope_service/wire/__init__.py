"""Lossless conversion between the messages of the wire contract and the types of the matcher and the catalog.

``answers``: policies and answers; ``queries``: queries and options; ``records``: stored images; ``upserts``: images to
store; ``index``: statistics; ``rules``: rules that messages must follow; ``text``: encoding of names that are not
UTF-8. The package uses neither network nor store. Server and clients both use it.
"""
