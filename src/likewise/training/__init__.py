"""EXAMPLES -> ENCODER: everything that needs torch; imported where a fit begins and nowhere else."""
