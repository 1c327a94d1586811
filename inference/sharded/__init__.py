"""One chain on several threads or machines: its children in shards, the prior in one place."""
