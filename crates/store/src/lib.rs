//! All state on disk: blobs, tags, build cache, root file systems, kernels, machine records.
