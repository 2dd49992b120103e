//! Dockerfile text to instructions to expanded stages, with a position for every error.
