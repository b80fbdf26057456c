"""Ape-X DQN on CartPole: many actors, prioritized replay, and priorities that are written back."""
