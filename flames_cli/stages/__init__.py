"""One function a stage: reads artifacts, writes artifacts, prints nothing."""
