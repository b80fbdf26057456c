"""A population of networks that learn and inherit: nodes that come and go."""
