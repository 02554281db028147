//! How the server proves itself to a receiver, as a request gives it: checked, its secret sealed for its channel alone,
//! and never shown again. Where a request sends back what a read has shown, the secret stays.

use super::{App, channels::ChannelError, options::OptionsRequest};
use crate::{
    domain::{
        auth::{ReceiverAuth, check_secret},
        channel::{Channel, ChannelOptions},
        hidden::{self, Hidden},
        invalid::{FieldError, InField, Invalid},
    },
    signing::auth_place,
};

/// As a request gives it.
pub type AuthRequest = ReceiverAuth<Hidden>;

impl App {
    /// Sets what the request says of `auth` for the channel `uid`; `None` leaves it alone.
    pub(super) fn set_auth(
        &self,
        options: &mut ChannelOptions,
        request: Option<Option<AuthRequest>>,
        project: &str,
        uid: &str,
    ) -> Result<(), ChannelError> {
        match request {
            None => {}
            Some(None) => options.auth = None,
            Some(Some(auth)) => {
                auth.check(&self.settings.header_prefix)?;
                let present = options.auth.take();
                options.auth = Some(self.seal_auth(auth, present.as_ref(), project, uid)?);
            }
        }
        let Some(auth) = &options.auth else { return Ok(()) };
        if options.headers.keys().any(|name| name.eq_ignore_ascii_case(auth.header_name())) {
            let twice = Invalid::Rule("not set a header that headers sets as well");
            return Err(FieldError::new("auth", twice).into());
        }
        Ok(())
    }

    fn seal_auth(
        &self,
        auth: AuthRequest,
        present: Option<&ReceiverAuth<String>>,
        project: &str,
        uid: &str,
    ) -> Result<ReceiverAuth<String>, ChannelError> {
        if let Some((name, secret)) = auth.secret() {
            let field = format!("auth.{name}");
            if secret.is_mark() {
                let behind = present.filter(|present| auth.is_like(*present)).cloned();
                return behind.ok_or_else(|| FieldError::new(field, NOTHING_BEHIND).into());
            }
            check_secret(secret.reveal()).in_field(&field)?;
        }
        Ok(auth.try_map(|secret| self.seal_text(secret.reveal(), &auth_place(project, uid)))?)
    }

    /// What a change begins with that leads to the address `to`. What proves the server to one receiver is not carried to
    /// another one: the request says itself what that one gets, if only that it gets nothing.
    pub(super) fn options_at(
        current: &Channel,
        to: &str,
        request: &OptionsRequest,
    ) -> Result<ChannelOptions, FieldError> {
        let mut options = current.options.clone();
        if is_same_origin(&current.address, to) {
            return Ok(options);
        }
        if options.has_auth_secret() {
            if request.auth.is_none() {
                return Err(FieldError::new("auth", NOT_CARRIED));
            }
            options.auth = None;
        }
        Ok(options)
    }

    /// An address as a request gives it, in its stored form. One whose query is hidden is the `present` one, if that is
    /// how it is shown.
    pub(super) fn address(
        &self,
        given: &str,
        present: Option<&str>,
        field: &'static str,
    ) -> Result<String, ChannelError> {
        if !hidden::is_masked(given) {
            return self.judge(given, field);
        }
        let behind = present.filter(|present| hidden::mask_query(present) == given).map(str::to_owned);
        behind.ok_or_else(|| FieldError::new(field, NOTHING_BEHIND).into())
    }
}

/// The mark was sent back where nothing fits it.
pub(super) const NOTHING_BEHIND: Invalid =
    Invalid::Rule("be given in full: (set) stands only for what the channel has there already");

/// It would be sent to another receiver than the one that it was given for.
const NOT_CARRIED: Invalid = Invalid::Rule("be given anew, or be null: the address leads to another host");

/// Whether both lead to the same scheme, host and port.
fn is_same_origin(one: &str, other: &str) -> bool {
    let origin = |address: &str| url::Url::parse(address).ok().map(|url| url.origin());
    origin(one).is_some_and(|found| Some(found) == origin(other))
}
