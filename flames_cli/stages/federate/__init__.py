"""Parts of `flames federate`: inputs, plan, engines, files of the run, and resuming."""
