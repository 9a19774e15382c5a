"""What several test modules share: servers, processes, made-up data, plugins."""
