"""The client's side of a call: from arguments to an answer.

Start with ``transport`` (what a lane gives) and ``connection`` (what is sent), ``answer_reader`` and
``background_reader`` (who reads), then ``reply`` (a future), ``in_flight``, ``stream_reader`` and
``awaiting`` (event loops). It may use ``core`` and ``wire``; a lane is behind ``transport``.
"""
