//! expcache
