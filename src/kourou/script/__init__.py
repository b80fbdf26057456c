"""The user's script: the ``__main__`` that all processes of a run share.

What a script defines lives in ``__main__``, which is another module in every process. So a run gets one: a snapshot of
the launcher's (``definitions``) that each of its processes installs as its own (``main_module``), and passes on to the
children that it starts (``children``). From then on values that travel refer to the script's classes and functions by
name (``names``), as they do to those of any other module; what has no name there travels by value (``pickling``).

Reading order: names, snapshot, pickling, definitions, main_module, children.
"""
