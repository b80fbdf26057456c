"""A run that is submitted: ``submit`` makes its folder and hands over a job (``submission``).

``job``, or ``pod`` in Kubernetes, is what its launcher's process executes: ``stored_plan`` starts the agents,
``launcher`` does the rest.
"""
