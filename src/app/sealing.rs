//! What of a channel lies sealed in the store as text: its token, the values of its headers, the secret of its `auth`. Sealed
//! here when a request gives it, opened here for its owner; for the receiver the engine opens it.

use std::collections::BTreeMap;

use super::{App, channels::ChannelError};
use crate::{
    domain::{
        channel::{self, Channel},
        invalid::InField,
    },
    signing::{header_place, token_place},
    store::StoreError,
};

impl App {
    /// The token that the receiver is shown, for those who may read the channel. None as well where it does not open,
    /// which is logged.
    pub fn channel_token(&self, channel: &Channel) -> Option<String> {
        let sealed = channel.token.as_deref()?;
        let opened = self.open_text(sealed, &token_place(&channel.project, &channel.uid));
        opened.inspect_err(|error| tracing::error!(channel.uid = %channel.uid, "{error}")).ok()
    }

    /// A token as a request gives it, checked and sealed. An empty one is none.
    pub(super) fn seal_token(
        &self,
        given: Option<&str>,
        project: &str,
        uid: &str,
    ) -> Result<Option<String>, ChannelError> {
        let Some(token) = given.filter(|token| !token.is_empty()) else { return Ok(None) };
        channel::check_token(token).in_field("token")?;
        Ok(Some(self.seal_text(token, &token_place(project, uid))?))
    }

    /// The same headers with their values sealed.
    pub(super) fn seal_headers(
        &self,
        headers: BTreeMap<String, String>,
        project: &str,
        uid: &str,
    ) -> Result<BTreeMap<String, String>, StoreError> {
        let seal = |(name, value): (String, String)| {
            let sealed = self.seal_text(&value, &header_place(project, uid, &name))?;
            Ok((name, sealed))
        };
        headers.into_iter().map(seal).collect()
    }

    pub(super) fn seal_text(&self, text: &str, place: &str) -> Result<String, StoreError> {
        let sealed = self.keys.sealer.seal_text(text, place, self.entropy.bytes());
        sealed.map_err(|_| StoreError::Unwritable("sealed text"))
    }

    pub(super) fn open_text(&self, sealed: &str, place: &str) -> Result<String, StoreError> {
        self.keys.sealer.open_text(sealed, place).map_err(|_| StoreError::Unreadable("sealed text"))
    }
}
