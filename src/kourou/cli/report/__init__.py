"""``kourou report``: a run or a sweep as one page that needs nothing else.

Start with ``writing``; ``run`` and ``sweep`` choose what is told, ``page``, ``curves`` and ``timeline`` turn it into
HTML, which is escaped there and nowhere else.
"""
