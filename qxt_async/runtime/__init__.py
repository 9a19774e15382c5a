"""What every part of the package may use: clocks, tasks, signals. Nothing here knows the gateway."""
