"""DQN on CartPole as a program: actors, a learner, an evaluator and a replay buffer. ``make demo`` runs it."""
