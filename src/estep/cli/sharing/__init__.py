"""Commands by which a run leaves its folder: files of its policy, one file to share, a video."""
