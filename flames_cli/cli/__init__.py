"""The command line: commands parse, call a stage and render. The only place that prints."""
