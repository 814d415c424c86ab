"""The studio: a page to draw on, and the server whose model answers while one draws.

``messages`` says what is asked and answered, ``requests`` puts it to the model, ``worker`` gives
the requests their turns on one thread, ``files`` reads and writes drawings, ``gate`` keeps out whom
it must, ``app`` ties them together, ``page/`` is what the browser loads. Needs the extra
``studio``.
"""
