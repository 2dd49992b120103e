//! The plan: operations, stage graph, cache keys, and the lowering of every front end to it.
