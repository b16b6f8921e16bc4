//! Which events may take what is kept back for a full disk.

use super::Event;

impl Event<'_> {
    /// Whether it may take what is kept back for a full disk. What anybody who reaches the port can cause, may not: they
    /// could have all of it.
    pub(super) fn is_owed(&self) -> bool {
        if let Self::SignOn(event) = self {
            return event.is_owed();
        }
        !matches!(
            self,
            Self::ConnectionOpened { .. }
                | Self::ConnectionClosed { .. }
                | Self::AuthenticationRefused { .. }
                | Self::RequestRefused { .. }
                | Self::StrangersSummedUp { .. }
        )
    }
}
