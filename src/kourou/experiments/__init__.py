"""Experiments: descriptions of many runs, their seeds and CPUs, and what they measured."""
