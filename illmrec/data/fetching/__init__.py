"""Files and pictures from the network: polite, resumable, and only from public addresses."""
