//! The http-server example, as a process, driven by the clients that people have.
//!
//! `CAMPANILE_HTTP_MIB` is how much goes through one connection (256); 1024 is a GiB.

#![allow(clippy::print_stdout)] // It says how it went.

#[path = "../support/mod.rs"]
mod support;

mod access_log;
mod callers;
mod curl;
mod endpoints;
mod hand_over;
mod killed;
mod load;
mod memory;
mod options;
mod scripts;
mod seeing;
mod site;
mod static_files;
mod stopping;
