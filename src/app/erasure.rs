//! A publisher takes an event's data back. That it happened stays in the log, and its number with it.

use super::{AccessError, App, Principal, Scope};
use crate::{domain::event, store::StoreError};

#[derive(Debug, thiserror::Error)]
pub enum ErasureError {
    #[error(transparent)]
    Access(#[from] AccessError),
    /// Never published, gone by its age, or another project's: nobody learns which.
    #[error("there is no such event")]
    NotFound,
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl App {
    /// Erases the data of an event on all its resources. Once this returns no answer shows it; requests that are on
    /// their way still carry it, and on a shared store those that another node starts within half a second.
    pub async fn erase_event(&self, principal: &Principal, id: &str) -> Result<(), ErasureError> {
        principal.require(Scope::Events)?;
        // What no event can be called is not looked up: not every store takes every text.
        event::check_id(id).map_err(|_| ErasureError::NotFound)?;
        if self.store.erase_event(&principal.project, id, self.now()).await? {
            Ok(())
        } else {
            Err(ErasureError::NotFound)
        }
    }
}
