"""What `bus bench` measures with: loads, relays, clocks and baselines, one a file.

Every benchmark runs its baseline in the same run on the same broker, in turns, for the speed of a machine drifts by
more than what is compared. Both sides begin with their backlog in the broker and nothing else to do.
"""
