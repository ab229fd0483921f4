"""Lossless conversion between the messages of the wire contract and the types of the matcher and the catalog.

Six modules convert messages: ``answers`` (policies and answers), ``queries`` (queries and options), ``instruments``
(instrument metadata), ``records`` (stored images), ``upserts`` (images to store) and ``index`` (the statistics of a
store). The module ``rules`` checks the rules that messages must follow. The module ``text`` encodes names that are not
UTF-8. The package uses neither the network nor a store, so that both the server and the clients can use it.
"""
