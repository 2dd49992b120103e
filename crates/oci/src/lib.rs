//! Images as archives and layouts; layer bytes to file tree and back.
