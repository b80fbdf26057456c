"""Why a program does not go on, or how it ended: findings, made of what its nodes tell and of its folder.

``snapshot`` is what was seen, ``finding`` what is said of it; ``waiting`` has the graph of waits and its cycles,
``stuck`` what holds up those who wait, ``node_states`` what is the matter with nodes by themselves, ``ended`` how a run
ended. All of that is pure; ``doctor`` asks the nodes. It may use ``monitoring`` and what is below.
"""
