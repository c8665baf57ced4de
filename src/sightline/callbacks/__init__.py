"""What Lightning lacks and we need, one file each."""
