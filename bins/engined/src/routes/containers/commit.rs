//! `POST /commit`

use engine::container::CommitOptions;
use engine_api::image::CommitAnswer;
use http::StatusCode;

use crate::convert::image::named;
use crate::error::Error;
use crate::extract;
use crate::reply::{self, Response};
use crate::router::Call;

pub(crate) async fn commit(call: Call) -> Result<Response, Error> {
    let query = &call.query;
    let container = call.daemon.engine.containers().get(query.text("container")).await?;
    let mut options = CommitOptions::default();
    if !query.text("repo").is_empty() {
        options.reference = Some(named(query.text("repo"), query.text("tag"))?);
    }
    options.comment = query.text("comment").to_owned();
    options.author = query.text("author").to_owned();
    options.pause = query.boolean_or("pause", true);
    options.changes = query.all("changes").filter(|change| !change.is_empty()).map(str::to_owned).collect();
    options.config = extract::optional_json(&call.headers, call.body).await?;
    let image = container.commit(options).await?;
    Ok(reply::json(StatusCode::CREATED, &CommitAnswer { id: image.id().as_str().to_owned() }))
}
