//! The engine under random histories: against a model, dying at every write, with a full disk, and in many threads.
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "the numbers of a history are small"
)]

mod agree;
mod compare;
mod crash;
mod damage;
mod deleted;
mod history;
mod model;
mod sharing;
mod threads;
