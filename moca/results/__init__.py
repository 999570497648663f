"""What runs measured: the leaderboard, tables, and queues of runs."""
