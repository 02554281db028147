//! `POST /v1/jobs/{name}`: runs a job now. For `watchpost job run` beside a running embedded server, which alone may
//! write its store.

use actix_web::{
    HttpRequest, HttpResponse,
    http::StatusCode,
    web::{Data, Path},
};
use serde_json::json;

use super::{Problem, authenticate, json_answer};
use crate::{app::Scope, jobs::JobName, web::Web};

pub async fn run(request: HttpRequest, name: Path<String>, web: Data<Web>) -> Result<HttpResponse, Problem> {
    authenticate(&request, &web)?.require(Scope::Operator)?;
    let job = JobName::parse(&name).ok_or_else(|| Problem::not_found("job"))?;
    let report = web.jobs.run_once(job).await?;
    Ok(json_answer(StatusCode::OK, &json!({ "job": job.as_str(), "report": report })))
}
