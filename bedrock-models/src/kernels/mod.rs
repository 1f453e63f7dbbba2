//! The only folder of this workspace in which `unsafe` is allowed: what a file mapping or a vector instruction cannot
//! express otherwise. Every `unsafe` block says why it is sound.
#![allow(unsafe_code)]

pub(crate) mod map;
