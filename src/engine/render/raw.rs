//! `raw`: the data bytes and their content type, as they were published. A sync, and an event without data to
//! show, is `{}`.

use bytes::Bytes;
use http::HeaderMap;

use super::{Notification, Rendered, data_body, with_body};
use crate::domain::event::Payload;

pub(super) fn render(notification: &Notification<'_>) -> Rendered {
    let mut headers = HeaderMap::with_capacity(16);
    let nothing = || Payload { content_type: Payload::JSON.to_owned(), bytes: Bytes::from_static(b"{}") };
    let payload = data_body(notification).unwrap_or_else(nothing);
    let body = with_body(&mut headers, payload);
    Rendered { headers, body }
}
