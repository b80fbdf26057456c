"""The client's side of a call: from arguments to an answer.

Start with ``transport`` (what a lane gives) and ``connection`` (what is sent), ``answer_reader`` and
``in_flight`` (who reads, and for whom), then ``reply`` (a future), ``stream_reader`` and ``awaiting`` (event loops).
It may use ``core`` and ``wire``; a lane is behind ``transport``.
"""
