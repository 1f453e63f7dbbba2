//! The examples are the files beside this folder; this library holds what several of them share.
