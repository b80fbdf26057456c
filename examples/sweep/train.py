"""A tiny training on CartPole, for the sweep in sweep.yaml: REINFORCE with a linear policy, in NumPy only."""

from __future__ import annotations

import argparse
from typing import Any

import gymnasium as gym
import numpy as np

from kourou import experiments

Array = np.ndarray[Any, Any]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--lr", type=float, default=0.05)
    parser.add_argument("--gamma", type=float, default=0.99)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--episodes", type=int, default=200)
    train(parser.parse_args())


def train(options: argparse.Namespace) -> None:
    rng = np.random.default_rng(options.seed)
    env = gym.make("CartPole-v1", max_episode_steps=200)
    weights = np.zeros((4, 2))
    returns = []
    for episode in range(1, options.episodes + 1):
        states, actions, rewards = play(env, weights, rng, seed=options.seed if episode == 1 else None)
        returns.append(sum(rewards))
        weights += options.lr * gradient(weights, states, actions, discounted(rewards, options.gamma))
        if episode % 10 == 0:
            experiments.log(episode, mean_return=float(np.mean(returns[-10:])), weight_norm=np.linalg.norm(weights))
            print(f"episode {episode}: return {np.mean(returns[-10:]):.1f}", flush=True)
    env.close()


def play(
    env: Any, weights: Array, rng: np.random.Generator, seed: int | None = None
) -> tuple[Array, Array, list[float]]:
    states, actions, rewards = [], [], []
    state, _ = env.reset(seed=seed)
    done = False
    while not done:
        action = int(rng.random() < probabilities(state @ weights)[1])
        states.append(state)
        actions.append(action)
        state, reward, terminated, truncated, _ = env.step(action)
        rewards.append(float(reward))
        done = terminated or truncated
    return np.array(states), np.array(actions), rewards


def probabilities(scores: Array) -> Array:
    e = np.exp(scores - scores.max(axis=-1, keepdims=True))
    shares: Array = e / e.sum(axis=-1, keepdims=True)
    return shares


def discounted(rewards: list[float], gamma: float) -> Array:
    total, reversed_totals = 0.0, []
    for reward in reversed(rewards):
        total = reward + gamma * total
        reversed_totals.append(total)
    totals = np.array(reversed_totals[::-1])
    normal: Array = (totals - totals.mean()) / (totals.std() + 1e-8)
    return normal


def gradient(weights: Array, states: Array, actions: Array, advantages: Array) -> Array:
    """Of the mean of log-probability times advantage."""
    taken = np.eye(2)[actions] - probabilities(states @ weights)
    uphill: Array = states.T @ (taken * advantages[:, None]) / len(states)
    return uphill


if __name__ == "__main__":
    main()
