"""How a program stops: the time that each step gives, the steps, and whether one stops at all.

A new step is a member, a method and a line of the schedule in ``steps``, and its time in ``timeline``. ``state`` is
what nodes poll, ``exit_signals`` is Ctrl-C. It may use ``files``, ``model`` and ``interpreter``; what nodes call is in
``context``.
"""
