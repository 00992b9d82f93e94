"""What the end-to-end tests are made of: the daemon, scripted upstreams, raw clients, real peers."""
