"""Callbacks, loggers and plugins that Lightning lacks, one file each."""
