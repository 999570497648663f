"""Counted reliability: many damaged, hostile or interrupted runs, and what was lost in them.

``python -m tests.campaign`` runs all areas and prints a table of what became of each kind of case;
it fails if a single one ended in what is not promised. Cases are drawn from a seed, so that a
number stands for the same case every time, and a campaign that was interrupted goes on.
"""
