"""What the runs measured: records of finished runs, the leaderboard, pictures of predictions."""
