//! The model store: what is fetched, from where, and how it is checked.
