//! Stops everything of a subject whose access ended. What they could open again is the business of whoever issues
//! their credentials: end those first.

use super::{App, Principal, Scope, channels::ChannelError};

/// Channels that are looked for at a time.
const SLICE: i64 = 200;
/// Slices of one call; whoever has more is stopped by another one.
const SLICES_MAX: usize = 25;

/// How far a call has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoppedAll {
    Entirely,
    /// Another call goes on.
    InPart,
}

impl App {
    /// Stops every channel of `subject` in the caller's project. Once it returns, none of them sends anything more.
    pub async fn stop_subject(
        &self,
        principal: &Principal,
        subject: &str,
    ) -> Result<StoppedAll, ChannelError> {
        principal.require(Scope::Admin)?;
        for _ in 0..SLICES_MAX {
            let now = self.now();
            let keys = self.store.stoppable_channels(&principal.project, subject, now, SLICE).await?;
            if keys.is_empty() {
                return Ok(StoppedAll::Entirely);
            }
            let mut stopped = Vec::new();
            for key in keys {
                if self.store.stop_for_owner(key, now).await? {
                    stopped.push(key);
                }
            }
            if !stopped.is_empty() {
                self.bells.changed(stopped).await;
            }
        }
        Ok(StoppedAll::InPart)
    }
}
