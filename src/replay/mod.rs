//! Finding recordings, and looking at them.
//!
//! Everything here reads through a [`crate::store::RecordingStore`] and takes a filter of what its reader may see:
//! what it leaves out does not exist, neither in lists nor in errors. The same functions serve the administrator's
//! command line and auditors over ssh.

mod error;
mod find;
mod kept;
mod keys;
mod leases;
mod moment;
mod page;
mod player;
mod printable;
mod requests;
mod safe;
pub(crate) mod screen;
mod stage;
mod summary;
mod table;
#[cfg(test)]
mod tests;
mod touched;
mod words;

pub use error::{FindError, PlayError};
pub use find::{Found, Query, find, resolve};
pub use kept::{Kept, Marks};
pub use keys::{Key, KeyParser};
pub use leases::{lease_lines, lease_table};
pub use moment::{Edge, NotAMoment, parse_duration, parse_moment};
pub use page::{show, show_kept};
pub use player::{Play, play};
pub use printable::printable;
pub(crate) use requests::RequestLog;
pub use safe::SafeText;
pub use summary::{Status, Summary};
pub use table::{json_lines, table, unsearched, unsearched_lines};
pub use touched::{NotTouched, Touched};
pub use words::{Filters, NotAQuery, ReadingWord, ReplayArgs};
