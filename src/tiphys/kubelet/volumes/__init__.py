"""Volumes of pods: what each source needs on disk, and the mounts that containers get from them."""
