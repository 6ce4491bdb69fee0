//! The runtime: threads, clocks, sockets.
//!
//! * What: owned-buffer sockets over `io_uring` or epoll, one worker per core, the storage pool and the committer, change
//!   notices for idle connections, the control socket, signals, privileges.
//! * In: listening sockets, jobs, and the one function that serves an accepted connection.
//! * Out: bytes, ticks, seeds, wake-ups.
//! * Never: knows a protocol, TLS or the store's contents; holds a buffer for a connection that is at rest; drops an
//!   operation the kernel may still be working on before its socket was shut down.
//! * Fails: at start, when the kernel refuses threads or sockets; later only single connections fail.

pub mod alarm;
pub mod background;
pub mod clock;
pub mod control;
mod epoll;
pub mod hub;
pub mod process;
pub mod replier;
pub mod roster;
pub mod side;
pub mod storage;
mod uring;
pub mod wire;
pub mod workers;
