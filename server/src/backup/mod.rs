//! Backups: a moment of the data folder, copied into a repository, and back out of it.
//!
//! * What: taking a snapshot of a server that runs or stands still, listing, verifying and pruning snapshots, restoring
//!   the whole store or reading it where it lies.
//! * In: a configuration, a folder that is the repository.
//! * Out: objects named by their content, a manifest for each snapshot, a data folder.
//! * Never: writes to the data folder of a running server, but for the folder that holds a checkpoint; takes a copy for
//!   good before it is synced; removes an object that a manifest needs.
//! * Fails: with what to do. What was killed is done again by running it again; a snapshot is there whole or not at all.
//!
//! ```text
//! REPOSITORY/
//!   format            "rockdove backup 1"
//!   objects/ab/ab...  one file of a data folder each, named by the BLAKE3 of its content
//!   snapshots/NAME    a manifest: which file of the data folder has which content
//!   damaged/          objects that are not what their name says, out of the way
//!   drafts/           what is being written
//!   views/            snapshots being read where they lie
//!   progress          what an unfinished snapshot has copied
//!   writing, reading  locks
//! ```

mod account;
pub mod checkpoint;
pub mod command;
mod create;
mod manifest;
mod pace;
mod prune;
mod repository;
mod restore;
mod verify;
mod view;

pub use account::{Wish, restore_account};
pub use create::{Created, create};
pub use manifest::{FileEntry, Manifest};
pub use pace::Rate;
pub use prune::{Keep, Pruned, prune};
pub use repository::Repository;
pub use restore::restore;
pub use verify::{Verified, verify};
pub use view::View;
