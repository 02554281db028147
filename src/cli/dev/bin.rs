//! The bin: a receiver inside the process, which remembers what it got and can be told what to answer.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use actix_web::{
    HttpRequest, HttpResponse,
    http::StatusCode,
    web::{self, Bytes, Data},
};
use serde_json::{Value, json};

use crate::cli::listener::Routes;

pub const PATH: &str = "/dev/bin/demo";
/// Requests that are remembered.
const KEPT_MAX: usize = 100;

#[derive(Debug, Default)]
pub struct Bin {
    /// What to answer next; 200 once it is empty.
    answers: Mutex<VecDeque<u16>>,
    received: Mutex<VecDeque<Value>>,
}

impl Bin {
    /// Answers the next requests with these statuses, one each.
    pub fn answer_next(&self, statuses: &[u16]) {
        locked(&self.answers).extend(statuses);
    }
}

pub fn routes(bin: &Arc<Bin>) -> Routes {
    let bin = Arc::clone(bin);
    Arc::new(move |config| {
        config.app_data(Data::from(Arc::clone(&bin)));
        config.route(PATH, web::post().to(receive));
        config.route(PATH, web::get().to(show));
    })
}

async fn receive(request: HttpRequest, body: Bytes, bin: Data<Bin>) -> HttpResponse {
    let headers = request.headers().iter().map(|(name, value)| {
        (name.as_str().to_owned(), Value::from(String::from_utf8_lossy(value.as_bytes()).into_owned()))
    });
    let seen = json!({
        "headers": headers.collect::<serde_json::Map<_, _>>(),
        "body": String::from_utf8_lossy(&body),
    });
    let mut received = locked(&bin.received);
    received.push_back(seen);
    if received.len() > KEPT_MAX {
        received.pop_front();
    }
    let status = locked(&bin.answers).pop_front().unwrap_or(200);
    HttpResponse::build(StatusCode::from_u16(status).unwrap_or(StatusCode::OK)).finish()
}

/// What came in, newest last.
async fn show(bin: Data<Bin>) -> HttpResponse {
    HttpResponse::Ok().json(&*locked(&bin.received))
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
