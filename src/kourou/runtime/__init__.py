"""The runtime: a program graph is compiled to a plan, and one supervisor brings the plan to life."""
