"""Both ends of a worker process: messages, channel, process loop, handle, pool, launchers."""
