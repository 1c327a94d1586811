"""Parts of `NextInfection`: counts, communities, tuning, files, and the compiled code."""
