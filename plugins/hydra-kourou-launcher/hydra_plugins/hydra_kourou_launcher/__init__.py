"""``--multirun hydra/launcher=kourou``: Hydra's jobs as the runs of a sweep of kourou's."""
