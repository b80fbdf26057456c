"""PPO on CartPole: on-policy learning through a queue table."""
