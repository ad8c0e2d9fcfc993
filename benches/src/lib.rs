//! Criterion benchmarks of the hot paths; see `benches/`. Run them with `make bench`.
