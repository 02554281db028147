//! `POST /v1/jobs/{name}`: runs a job now. For `watchpost job run` beside a running embedded server, which alone may
//! write its store.

use actix_web::{
    HttpRequest, HttpResponse,
    http::StatusCode,
    web::{Data, Path},
};
use serde_json::json;

use super::{Problem, authenticate, json_answer};
use crate::{
    app::Scope,
    domain::invalid::{FieldError, Invalid},
    jobs::{JobName, Run},
    web::{Web, extract::Query},
};

pub async fn run(request: HttpRequest, name: Path<String>, web: Data<Web>) -> Result<HttpResponse, Problem> {
    authenticate(&request, &web).await?.require(Scope::Operator)?;
    let job = JobName::parse(&name).ok_or_else(|| Problem::not_found("job"))?;
    let run = read(&Query::read(&request, &["dryRun"])?, job)?;
    let report = web.jobs.run(job, run).await?;
    Ok(json_answer(StatusCode::OK, &json!({ "job": job.as_str(), "report": report })))
}

fn read(query: &Query, job: JobName) -> Result<Run, FieldError> {
    match query.get("dryRun") {
        None | Some("false") => Ok(Run::Real),
        Some("true") if job.counts() => Ok(Run::Dry),
        Some("true") => {
            Err(FieldError::new("dryRun", Invalid::Rule("not be given: this job has no dry run")))
        }
        Some(_) => Err(FieldError::new("dryRun", Invalid::Type("true or false"))),
    }
}
