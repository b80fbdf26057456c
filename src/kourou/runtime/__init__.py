"""The runtime: a program graph is compiled to a plan, and one supervisor brings the plan to life."""

import os

# gRPC's own fork handlers crash children of fork now and then (SIGSEGV, grpcio 1.85) when other threads are in gRPC, as
# they always are in a launcher and in a node, and print a line each time. It reads this when its first object is made.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
