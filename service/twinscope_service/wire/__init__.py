"""Between the messages of the wire contract and what the matcher and the catalogue speak; nothing is lost on the way.

``answers`` holds policies and answers, ``queries`` what is asked, ``records`` the stored images, ``upserts`` images to
store, ``index`` the statistics, ``rules`` what a message may hold, ``text`` how names travel that are not UTF-8. All of
it is pure: no network, no store. Server and clients both use it.
"""
