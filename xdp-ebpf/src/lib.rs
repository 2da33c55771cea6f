//! What the kernel side and the user side agree on.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
