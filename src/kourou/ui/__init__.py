"""The dashboard: what other commands tell of runs and sweeps, as pages of a browser and as JSON.

``lists``, ``run_page``, ``history`` and ``sweep_page`` make JSON of what exists, and need no web server. ``live_runs``
looks at live runs while somebody has their page open; ``access`` lets nobody in who does not know the token;
``routes`` are the URLs, ``serving`` is the server. The pages are in ``static``, with the packages that they use.
"""
