"""From a publisher's files to a folder that experiments read: parse, filter, k-core, pictures, write."""
