"""How a program stops: the time that each step gives, and whether one stops at all.

``timeline`` has a new step's time; what it does is in ``launch.stop_steps``. ``state`` is what nodes poll,
``exit_signals`` is Ctrl-C. It may use ``files``, ``model`` and ``interpreter``; what nodes call is in ``context``.
"""
