//! What is left of a request's body once it is answered. The HTTP library would read a chunked one to its end before
//! it lets the connection go, however long that takes and whoever sent it; while somebody still holds the body it closes
//! the connection instead, as it does where the length is known. So the answer holds it.

use std::{
    cell::RefCell,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use actix_web::{
    Error, HttpMessage as _,
    body::{BodySize, BoxBody, MessageBody},
    dev::{Payload, ServiceRequest, ServiceResponse},
    middleware::Next,
    web::Bytes,
};
use futures_util::{Stream as _, stream::poll_fn};

/// Middleware: the answer ends before its request's body is let go.
pub async fn close_on_unread(
    mut request: ServiceRequest,
    next: Next<BoxBody>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    if !request.chunked()? {
        return next.call(request).await;
    }
    let held = Rc::new(RefCell::new(request.take_payload()));
    let read = Rc::clone(&held);
    let stream = poll_fn(move |cx| Pin::new(&mut *read.borrow_mut()).poll_next(cx));
    request.set_payload(Payload::Stream { payload: Box::pin(stream) });
    let answer = next.call(request).await?;
    Ok(answer.map_body(|_, body| BoxBody::new(Holding { body, _held: held })))
}

/// An answer's body, and the request's.
struct Holding {
    body: BoxBody,
    _held: Rc<RefCell<Payload>>,
}

impl MessageBody for Holding {
    type Error = <BoxBody as MessageBody>::Error;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        Pin::new(&mut self.body).poll_next(cx)
    }
}
